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

// Command on port 61: 0x62, dimming (uint8, %); 255, written as null, leaves it to the lamp again.
function encodeDownlink(input) {
  var dimming = input.data.dimming;
  if (dimming === null) {
    return { fPort: 61, bytes: [0x62, 255] };
  }
  if (typeof dimming !== "number" || !(dimming >= 0 && dimming <= 100)) {
    return { errors: ["dimming: a number from 0 to 100, or null"] };
  }
  return { fPort: 61, bytes: [0x62, Math.round(dimming)] };
}
