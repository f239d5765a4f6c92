// Node's Buffer as far as codecs use it, and the few functions that stand beside it there.
var { Buffer, atob, btoa, TextDecoder, TextEncoder } = (function () {
  const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const VALUES = new Map([...ALPHABET].map((letter, value) => [letter, value]));
  VALUES.set("-", 62).set("_", 63);

  function fromBase64(text) {
    const bytes = [];
    let bits = 0, held = 0;
    for (const letter of text) {
      if (letter === "=") break;
      const value = VALUES.get(letter);
      if (value === undefined) continue;
      held = ((held << 6) | value) & 0xffff;
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        bytes.push((held >> bits) & 0xff);
      }
    }
    return bytes;
  }

  function toBase64(bytes, isUrl) {
    let text = "";
    for (let at = 0; at < bytes.length; at += 3) {
      const left = bytes.length - at;
      const held = (bytes[at] << 16) | ((left > 1 ? bytes[at + 1] : 0) << 8) | (left > 2 ? bytes[at + 2] : 0);
      text += ALPHABET[held >> 18] + ALPHABET[(held >> 12) & 63];
      text += left > 1 ? ALPHABET[(held >> 6) & 63] : isUrl ? "" : "=";
      text += left > 2 ? ALPHABET[held & 63] : isUrl ? "" : "=";
    }
    return isUrl ? text.replaceAll("+", "-").replaceAll("/", "_") : text;
  }

  function fromHex(text) {
    const bytes = [];
    for (let at = 0; at + 1 < text.length; at += 2) {
      const pair = text.slice(at, at + 2);
      if (!/^[0-9a-fA-F]{2}$/.test(pair)) break;
      bytes.push(Number.parseInt(pair, 16));
    }
    return bytes;
  }

  function fromUtf8(text) {
    const bytes = [];
    for (const letter of text) {
      let code = letter.codePointAt(0);
      if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
      if (code < 0x80) bytes.push(code);
      else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
      else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
      else
        bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    }
    return bytes;
  }

  // As the Encoding Standard has it: each part of a sequence that cannot go on is one U+FFFD.
  function toUtf8(bytes) {
    let text = "", at = 0;
    while (at < bytes.length) {
      const first = bytes[at++];
      if (first < 0x80) {
        text += String.fromCharCode(first);
        continue;
      }
      let more = 0, low = 0x80, high = 0xbf, code = 0;
      if (first >= 0xc2 && first <= 0xdf) (more = 1), (code = first & 31);
      else if (first >= 0xe0 && first <= 0xef) {
        more = 2;
        code = first & 15;
        if (first === 0xe0) low = 0xa0;
        if (first === 0xed) high = 0x9f;
      } else if (first >= 0xf0 && first <= 0xf4) {
        more = 3;
        code = first & 7;
        if (first === 0xf0) low = 0x90;
        if (first === 0xf4) high = 0x8f;
      } else {
        text += "\ufffd";
        continue;
      }
      while (more > 0 && at < bytes.length && bytes[at] >= low && bytes[at] <= high) {
        code = (code << 6) | (bytes[at++] & 63);
        low = 0x80;
        high = 0xbf;
        more--;
      }
      text += more > 0 ? "\ufffd" : String.fromCodePoint(code);
    }
    return text;
  }

  const letters = (bytes, mask) => {
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte & mask);
    return text;
  };
  const wide = (text) => {
    const bytes = [];
    for (let at = 0; at < text.length; at++) bytes.push(text.charCodeAt(at) & 0xff, text.charCodeAt(at) >> 8);
    return bytes;
  };
  const unwide = (bytes) => {
    let text = "";
    for (let at = 0; at + 1 < bytes.length; at += 2) text += String.fromCharCode(bytes[at] | (bytes[at + 1] << 8));
    return text;
  };
  const named = (encoding) => {
    const name = encoding === undefined || encoding === null ? "utf8" : String(encoding).toLowerCase();
    switch (name) {
      case "utf8": case "utf-8": return "utf8";
      case "hex": case "base64": case "base64url": case "ascii": return name;
      case "latin1": case "binary": return "latin1";
      case "ucs2": case "ucs-2": case "utf16le": case "utf-16le": return "utf16le";
      default: throw new TypeError("Unknown encoding: " + encoding);
    }
  };
  const encode = (text, encoding) => {
    switch (named(encoding)) {
      case "hex": return fromHex(text);
      case "base64": case "base64url": return fromBase64(text);
      case "ascii": case "latin1": return Array.from(text, (letter) => letter.charCodeAt(0) & 0xff);
      case "utf16le": return wide(text);
      default: return fromUtf8(text);
    }
  };

  class Buffer extends Uint8Array {
    static from(given, second, third) {
      if (typeof given === "string") return make(encode(given, second));
      if (given instanceof ArrayBuffer) return new Buffer(given, second, third);
      if (given !== null && typeof given === "object") {
        if (given.type === "Buffer" && Array.isArray(given.data)) return make(given.data);
        if (typeof given.length === "number") return make(Array.from(given));
      }
      throw new TypeError("The first argument must be of type string or an instance of Buffer, ArrayBuffer, or Array");
    }
    static alloc(length, fill, encoding) {
      const made = new Buffer(length);
      return fill === undefined || fill === 0 ? made : made.fill(fill, 0, length, encoding);
    }
    static allocUnsafe(length) { return new Buffer(length); }
    static isBuffer(value) { return value instanceof Buffer; }
    static isEncoding(name) {
      try { return typeof name === "string" && named(name) !== ""; } catch { return false; }
    }
    static byteLength(value, encoding) {
      return typeof value === "string" ? encode(value, encoding).length : value.byteLength;
    }
    static concat(list, total) {
      const length = total === undefined ? list.reduce((sum, part) => sum + part.length, 0) : total;
      const made = new Buffer(length);
      let at = 0;
      for (const part of list) {
        if (at >= length) break;
        made.set(part.subarray(0, length - at), at);
        at += part.length;
      }
      return made;
    }
    static compare(one, other) { return one.compare(other); }

    toString(encoding, start = 0, end = this.length) {
      const bytes = this.subarray(Math.max(start, 0), Math.min(end, this.length));
      switch (named(encoding)) {
        case "hex": {
          let text = "";
          for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
          return text;
        }
        case "base64": return toBase64(bytes, false);
        case "base64url": return toBase64(bytes, true);
        case "ascii": return letters(bytes, 0x7f);
        case "latin1": return letters(bytes, 0xff);
        case "utf16le": return unwide(bytes);
        default: return toUtf8(bytes);
      }
    }
    toJSON() { return { type: "Buffer", data: Array.from(this) }; }
    // Node's slice shares its memory, unlike that of a typed array.
    slice(start, end) { return this.subarray(start, end); }
    equals(other) { return this.compare(other) === 0; }
    compare(other) {
      const both = Math.min(this.length, other.length);
      for (let at = 0; at < both; at++) if (this[at] !== other[at]) return this[at] < other[at] ? -1 : 1;
      return Math.sign(this.length - other.length);
    }
    copy(target, to = 0, start = 0, end = this.length) {
      const part = this.subarray(start, Math.min(end, start + Math.max(target.length - to, 0)));
      target.set(part, to);
      return part.length;
    }
    write(text, at = 0, length, encoding) {
      if (typeof at === "string") return this.write(text, 0, undefined, at);
      if (typeof length === "string") return this.write(text, at, undefined, length);
      const bytes = encode(text, encoding).slice(0, Math.min(length ?? Infinity, this.length - at));
      this.set(bytes, at);
      return bytes.length;
    }
    fill(value, start = 0, end = this.length, encoding) {
      if (typeof value !== "string" && !(value instanceof Uint8Array)) return super.fill(value, start, end);
      const bytes = typeof value === "string" ? encode(value, typeof start === "string" ? start : encoding) : value;
      const first = typeof start === "string" ? 0 : start;
      for (let at = first; at < end; at++) this[at] = bytes.length > 0 ? bytes[(at - first) % bytes.length] : 0;
      return this;
    }
    indexOf(value, from = 0, encoding) {
      if (typeof value === "number") return super.indexOf(value & 0xff, from);
      const sought = typeof value === "string" ? encode(value, typeof from === "string" ? from : encoding) : value;
      for (let at = Math.max(typeof from === "string" ? 0 : from, 0); at + sought.length <= this.length; at++) {
        if (sought.every((byte, offset) => this[at + offset] === byte)) return at;
      }
      return -1;
    }
    includes(value, from, encoding) { return this.indexOf(value, from, encoding) !== -1; }
    swap16() { return swap(this, 2); }
    swap32() { return swap(this, 4); }
    swap64() { return swap(this, 8); }

    readUIntBE(at, length) {
      check(this, at, length);
      let value = 0;
      for (let next = 0; next < length; next++) value = value * 256 + this[at + next];
      return value;
    }
    readUIntLE(at, length) {
      check(this, at, length);
      let value = 0;
      for (let next = length - 1; next >= 0; next--) value = value * 256 + this[at + next];
      return value;
    }
    readIntBE(at, length) { return signed(this.readUIntBE(at, length), length); }
    readIntLE(at, length) { return signed(this.readUIntLE(at, length), length); }
    writeUIntBE(value, at, length) {
      check(this, at, length);
      for (let next = length - 1, left = value; next >= 0; next--, left = Math.floor(left / 256)) this[at + next] = left;
      return at + length;
    }
    writeUIntLE(value, at, length) {
      check(this, at, length);
      for (let next = 0, left = value; next < length; next++, left = Math.floor(left / 256)) this[at + next] = left;
      return at + length;
    }
    writeIntBE(value, at, length) { return this.writeUIntBE(value < 0 ? value + 2 ** (8 * length) : value, at, length); }
    writeIntLE(value, at, length) { return this.writeUIntLE(value < 0 ? value + 2 ** (8 * length) : value, at, length); }
  }

  function make(bytes) {
    const made = new Buffer(bytes.length);
    for (let at = 0; at < bytes.length; at++) made[at] = bytes[at];
    return made;
  }
  function swap(buffer, width) {
    if (buffer.length % width !== 0) throw new RangeError("Buffer size must be a multiple of " + width * 8 + "-bits");
    for (let at = 0; at < buffer.length; at += width) buffer.subarray(at, at + width).reverse();
    return buffer;
  }
  function signed(value, length) { return value >= 2 ** (8 * length - 1) ? value - 2 ** (8 * length) : value; }
  function check(buffer, at, length) {
    if (typeof at !== "number") {
      const error = new TypeError('The "offset" argument must be of type number. Received ' + typeof at);
      error.code = "ERR_INVALID_ARG_TYPE";
      throw error;
    }
    if (!Number.isInteger(at) || at < 0 || at + length > buffer.length) {
      const error =
        buffer.length < length
          ? new RangeError("Attempt to access memory outside buffer bounds")
          : new RangeError(
              'The value of "offset" is out of range. It must be >= 0 and <= ' + (buffer.length - length) + ". Received " + at,
            );
      error.code = buffer.length < length ? "ERR_BUFFER_OUT_OF_BOUNDS" : "ERR_OUT_OF_RANGE";
      throw error;
    }
  }
  function view(name, width, method) {
    for (const [order, isLittle] of width === 1 ? [["", true]] : [["LE", true], ["BE", false]]) {
      const read = function (at = 0) {
        check(this, at, width);
        return new DataView(this.buffer, this.byteOffset, this.length)["get" + method](at, isLittle);
      };
      const write = function (value, at = 0) {
        check(this, at, width);
        new DataView(this.buffer, this.byteOffset, this.length)["set" + method](at, value, isLittle);
        return at + width;
      };
      for (const known of new Set([name, name.replace("UInt", "Uint")])) {
        Object.defineProperty(Buffer.prototype, "read" + known + order, { value: read, configurable: true, writable: true });
        Object.defineProperty(Buffer.prototype, "write" + known + order, { value: write, configurable: true, writable: true });
      }
    }
  }
  view("UInt8", 1, "Uint8");
  view("Int8", 1, "Int8");
  view("UInt16", 2, "Uint16");
  view("Int16", 2, "Int16");
  view("UInt32", 4, "Uint32");
  view("Int32", 4, "Int32");
  view("BigUInt64", 8, "BigUint64");
  view("BigInt64", 8, "BigInt64");
  view("Float", 4, "Float32");
  view("Double", 8, "Float64");
  for (const way of ["read", "write"])
    for (const order of ["LE", "BE"])
      Buffer.prototype[way + "Uint" + order] = Buffer.prototype[way + "UInt" + order];

  // Called without `new` it is the oldest way to make one.
  const Made = new Proxy(Buffer, {
    apply: (target, self, [given, encoding]) => (typeof given === "number" ? Buffer.alloc(given) : Buffer.from(given, encoding)),
    construct: (target, given, made) =>
      typeof given[0] === "number" || given[0] instanceof ArrayBuffer
        ? Reflect.construct(target, given, made)
        : Buffer.from(given[0], given[1]),
  });
  Object.defineProperty(Buffer.prototype, "constructor", { value: Made, configurable: true, writable: true });
  Object.defineProperty(Buffer, Symbol.species, { value: Buffer });

  return {
    Buffer: Made,
    atob: (text) => letters(fromBase64(String(text)), 0xff),
    btoa: (text) => toBase64(Array.from(String(text), (letter) => letter.charCodeAt(0)), false),
    TextDecoder: class TextDecoder {
      constructor(encoding = "utf-8") { this.encoding = String(encoding).toLowerCase(); }
      decode(bytes = new Uint8Array()) {
        const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        switch (this.encoding) {
          case "utf-8": case "utf8": {
            const text = toUtf8(view);
            return text.startsWith("\ufeff") ? text.slice(1) : text;
          }
          case "utf-16le": case "utf-16": return unwide(view);
          default: return letters(view, 0xff);
        }
      }
    },
    TextEncoder: class TextEncoder {
      encode(text = "") { return Uint8Array.from(fromUtf8(String(text))); }
    },
  };
})();
