// Füllstandssensor: marker 0x41, fill level and battery (uint8, %).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 3 || b[0] !== 0x41) {
    return { errors: ["not a Füllstand frame"] };
  }
  return { data: { fill_level: b[1], battery: b[2] } };
}
