// The part of Node's Buffer that payload codecs use, on top of Uint8Array; evaluated only for scripts that name it.
// As in Node, slice and subarray share memory with the original, and reading beyond the end is a RangeError.
(function () {
  "use strict";

  const hexDigits = "0123456789abcdef";
  const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

  function fromHex(text) {
    const bytes = [];
    for (let i = 0; i + 1 < text.length; i += 2) {
      const value = parseInt(text.slice(i, i + 2), 16);
      if (!/^[0-9a-fA-F]{2}$/.test(text.slice(i, i + 2))) {
        break; // Node stops at the first pair that is not hexadecimal
      }
      bytes.push(value);
    }
    return bytes;
  }

  function fromBase64(text) {
    const bytes = [];
    let bits = 0;
    let count = 0;
    for (const sign of text.replace(/-/g, "+").replace(/_/g, "/")) {
      if (sign === "=") {
        break;
      }
      const value = base64Digits.indexOf(sign);
      if (value < 0) {
        continue;
      }
      bits = ((bits << 6) | value) & 0xffffff;
      count += 6;
      if (count >= 8) {
        count -= 8;
        bytes.push((bits >> count) & 0xff);
      }
    }
    return bytes;
  }

  function toBase64(bytes) {
    let text = "";
    for (let i = 0; i < bytes.length; i += 3) {
      const rest = bytes.length - i;
      const bits = (bytes[i] << 16) | ((rest > 1 ? bytes[i + 1] : 0) << 8) | (rest > 2 ? bytes[i + 2] : 0);
      text += base64Digits[bits >> 18] + base64Digits[(bits >> 12) & 63];
      text += rest > 1 ? base64Digits[(bits >> 6) & 63] : "=";
      text += rest > 2 ? base64Digits[bits & 63] : "=";
    }
    return text;
  }

  function fromUtf8(text) {
    const bytes = [];
    for (const sign of text) {
      let code = sign.codePointAt(0);
      if (code >= 0xd800 && code <= 0xdfff) {
        code = 0xfffd;
      }
      if (code < 0x80) {
        bytes.push(code);
      } else if (code < 0x800) {
        bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
      } else if (code < 0x10000) {
        bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
      } else {
        bytes.push(
          0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
      }
    }
    return bytes;
  }

  // Invalid sequences become U+FFFD, one for each maximal part of a sequence (Unicode 15, section 3.9).
  function toUtf8(bytes) {
    let text = "";
    for (let i = 0; i < bytes.length; ) {
      const first = bytes[i];
      i += 1;
      if (first < 0x80) {
        text += String.fromCharCode(first);
        continue;
      }
      const more = first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2
        : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
      let code = more === 0 ? 0xfffd : first & (0x3f >> more);
      let lowest = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
      let highest = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
      for (let k = 0; k < more; k += 1) {
        const next = bytes[i];
        if (i >= bytes.length || next < lowest || next > highest) {
          code = 0xfffd;
          break;
        }
        code = (code << 6) | (next & 63);
        lowest = 0x80;
        highest = 0xbf;
        i += 1;
      }
      text += String.fromCodePoint(code);
    }
    return text;
  }

  function encode(text, encoding) {
    switch (String(encoding === undefined ? "utf8" : encoding).toLowerCase()) {
      case "hex":
        return fromHex(text);
      case "base64":
      case "base64url":
        return fromBase64(text);
      case "ascii":
      case "latin1":
      case "binary":
        return Array.from(text, (sign) => sign.charCodeAt(0) & 0xff);
      case "utf8":
      case "utf-8":
        return fromUtf8(text);
      default:
        throw new TypeError("Unknown encoding: " + encoding);
    }
  }

  class Buffer extends Uint8Array {
    static from(value, encodingOrOffset, length) {
      if (typeof value === "string") {
        return super.from(encode(value, encodingOrOffset));
      }
      if (value instanceof ArrayBuffer) {
        return new Buffer(value, encodingOrOffset, length);
      }
      if (value === null || typeof value !== "object") {
        throw new TypeError("Buffer.from needs a string, an array or a buffer");
      }
      return super.from(value);
    }

    static alloc(size, fill) {
      const buffer = new Buffer(size);
      return fill === undefined ? buffer : buffer.fill(fill);
    }

    static allocUnsafe(size) {
      return new Buffer(size);
    }

    static isBuffer(value) {
      return value instanceof Buffer;
    }

    static byteLength(value, encoding) {
      return typeof value === "string" ? encode(value, encoding).length : value.byteLength;
    }

    static concat(list, total) {
      const length = total === undefined ? list.reduce((sum, part) => sum + part.length, 0) : total;
      const joined = new Buffer(length);
      let at = 0;
      for (const part of list) {
        const room = part.length > length - at ? part.slice(0, length - at) : part;
        joined.set(room, at);
        at += room.length;
      }
      return joined;
    }

    slice(start, end) {
      return this.subarray(start, end);
    }

    equals(other) {
      return this.length === other.length && this.every((byte, i) => byte === other[i]);
    }

    copy(target, targetStart = 0, start = 0, end = this.length) {
      const part = this.subarray(start, Math.min(end, start + target.length - targetStart));
      target.set(part, targetStart);
      return part.length;
    }

    toJSON() {
      return { type: "Buffer", data: Array.from(this) };
    }

    toString(encoding, start, end) {
      const part = this.subarray(start === undefined ? 0 : start, end === undefined ? this.length : end);
      let text = "";
      switch (String(encoding === undefined ? "utf8" : encoding).toLowerCase()) {
        case "hex":
          for (let i = 0; i < part.length; i += 1) {
            text += hexDigits[part[i] >> 4] + hexDigits[part[i] & 15];
          }
          return text;
        case "base64":
          return toBase64(part);
        case "base64url":
          return toBase64(part).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
        case "ascii":
          for (let i = 0; i < part.length; i += 1) {
            text += String.fromCharCode(part[i] & 0x7f);
          }
          return text;
        case "latin1":
        case "binary":
          for (let i = 0; i < part.length; i += 1) {
            text += String.fromCharCode(part[i]);
          }
          return text;
        case "utf8":
        case "utf-8":
          return toUtf8(part);
        default:
          throw new TypeError("Unknown encoding: " + encoding);
      }
    }

    write(text, offset = 0, length = this.length - offset, encoding = "utf8") {
      const bytes = encode(text, encoding).slice(0, length);
      this.set(bytes, offset);
      return bytes.length;
    }
  }

  function check(buffer, offset, size) {
    if (typeof offset !== "number") {
      throw new TypeError("The offset must be a number");
    }
    if (!(offset >= 0) || offset + size > buffer.length || offset % 1 !== 0) {
      throw new RangeError(
        "The offset " + offset + " with " + size + " bytes is outside of the " + buffer.length + " bytes");
    }
  }

  function view(buffer, offset, size) {
    check(buffer, offset, size);
    return new DataView(buffer.buffer, buffer.byteOffset + offset, size);
  }

  function method(name, body) {
    Object.defineProperty(Buffer.prototype, name, { value: body, writable: true, configurable: true });
    // Node has every name with "UInt" a second time with "Uint".
    if (name.includes("UInt")) {
      method(name.replace("UInt", "Uint"), body);
    }
  }

  const numbers = [
    ["UInt8", "Uint8", 1], ["Int8", "Int8", 1],
    ["UInt16", "Uint16", 2], ["Int16", "Int16", 2],
    ["UInt32", "Uint32", 4], ["Int32", "Int32", 4],
    ["Float", "Float32", 4], ["Double", "Float64", 8],
    ["BigUInt64", "BigUint64", 8], ["BigInt64", "BigInt64", 8],
  ];
  for (const [name, kind, size] of numbers) {
    for (const order of size === 1 ? [""] : ["LE", "BE"]) {
      method("read" + name + order, function (offset = 0) {
        return view(this, offset, size)["get" + kind](0, order === "LE");
      });
      method("write" + name + order, function (value, offset = 0) {
        view(this, offset, size)["set" + kind](0, value, order === "LE");
        return offset + size;
      });
    }
  }

  // Integers of one to six bytes.
  for (const order of ["LE", "BE"]) {
    const unsigned = function (offset, size) {
      check(this, offset, size);
      let value = 0;
      for (let i = 0; i < size; i += 1) {
        value = value * 256 + this[offset + (order === "BE" ? i : size - 1 - i)];
      }
      return value;
    };
    method("readUInt" + order, unsigned);
    method("readInt" + order, function (offset, size) {
      const value = unsigned.call(this, offset, size);
      return value >= 2 ** (8 * size - 1) ? value - 2 ** (8 * size) : value;
    });
    method("writeUInt" + order, function (value, offset, size) {
      check(this, offset, size);
      let rest = value;
      for (let i = 0; i < size; i += 1) {
        this[offset + (order === "BE" ? size - 1 - i : i)] = rest % 256;
        rest = Math.floor(rest / 256);
      }
      return offset + size;
    });
  }

  Object.defineProperty(globalThis, "Buffer", { value: Buffer, writable: true, configurable: true });
})();
