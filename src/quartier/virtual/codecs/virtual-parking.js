// Bodensensor Stellplatz: marker 0x31, occupied (0 or 1), battery (uint8, %).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 3 || b[0] !== 0x31) {
    return { errors: ["not a Stellplatz frame"] };
  }
  return { data: { occupied: b[1] !== 0, battery: b[2] } };
}
