// Wetterstation: marker 0x12, eleven big-endian numbers, strike distance in one byte, battery in mV.
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 24 || b[0] !== 0x12) {
    return { errors: ["not a Wetterstation frame"] };
  }
  function unsigned(at) {
    return (b[at] << 8) | b[at + 1];
  }
  return {
    data: {
      temperature: (unsigned(1) << 16 >> 16) / 100,
      humidity: unsigned(3) / 100,
      pressure: unsigned(5) / 10,
      vapour_pressure: unsigned(7) / 1000,
      wind_speed: unsigned(9) / 100,
      wind_direction: unsigned(11) / 10,
      wind_gust: unsigned(13) / 100,
      rain: unsigned(15) / 1000,
      irradiance: unsigned(17),
      strikes: unsigned(19),
      strike_distance: b[21],
      battery: unsigned(22) / 1000
    }
  };
}
