// Leuchtensteuerung: marker 0x61, power (uint16, 0.1 W), dimming (uint8, %), failure (0 or 1).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 5 || b[0] !== 0x61) {
    return { errors: ["not a Leuchten frame"] };
  }
  return {
    data: {
      power: ((b[1] << 8) | b[2]) / 10,
      dimming: b[3],
      failure: b[4] !== 0
    }
  };
}
