// Lastgenerator: marker 0x99, ten channels (int16, 0.01).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 21 || b[0] !== 0x99) {
    return { errors: ["not a Lastgenerator frame"] };
  }
  var data = {};
  for (var n = 0; n < 10; n++) {
    data["channel_" + n] = (((b[1 + 2 * n] << 8) | b[2 + 2 * n]) << 16 >> 16) / 100;
  }
  return { data: data };
}
