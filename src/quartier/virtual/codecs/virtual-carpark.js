// Zählanlage Parkhaus: marker 0x32, free spaces and capacity (uint16 each).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 5 || b[0] !== 0x32) {
    return { errors: ["not a Parkhaus frame"] };
  }
  return { data: { free: (b[1] << 8) | b[2], capacity: (b[3] << 8) | b[4] } };
}
