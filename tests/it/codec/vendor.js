// Written for these tests, in the manner of the codecs that vendors publish.
function decodeUplink(input) {
  return { data: trials[input.fPort](input.bytes, input), warnings: [], errors: undefined };
}

var trials = [
  function () { return {}; },
  // Channel, type, value: the usual loop with variables that nobody declared.
  function (bytes) {
    var decoded = {};
    for (i = 0; i < bytes.length; ) {
      channel = bytes[i++];
      type = bytes[i++];
      if (channel === 0x01 && type === 0x75) decoded.battery = bytes[i++];
      else if (channel === 0x03 && type === 0x67) {
        decoded.temperature = ((((bytes[i + 1] << 8) | bytes[i]) << 16) >> 16) / 10;
        i += 2;
      } else if (channel === 0x04 && type === 0x68) decoded.humidity = bytes[i++] / 2;
      else if (channel === 0x05 && type === 0x00) decoded.leak = bytes[i++] === 0 ? "normal" : "leak";
      else break;
    }
    return decoded;
  },
  function (bytes) { return Buffer.from(bytes).readFloatLE(8); },
  function (bytes) {
    var b = Buffer.from(bytes);
    return [b.toString("hex"), b.toString("base64"), b.toString(), b.toString("latin1"), b.toString("ascii"), b.slice(1, -1).toJSON()];
  },
  function (bytes) {
    var b = Buffer.concat([Buffer.from(bytes), Buffer.from("0102030405060708", "hex")]);
    return [b.readDoubleLE(b.length - 8), b.readInt16BE(1), b.readUIntLE(0, 6), b.readBigInt64BE(0).toString(), b.indexOf(8), b.swap16 && b.length];
  },
  function (bytes, input) {
    return [input.recvTime, input.recvTime.getTime(), new Date(1768444205000).toISOString(), new Date(0).getUTCDay(), input.recvTime instanceof Date];
  },
  function (bytes) {
    return bytes.map(function (byte) { return ("0" + byte.toString(16)).substr(-2); }).join(" ").match(/[a-f]+/g);
  },
  function (bytes) {
    return [bytes.length / 3, 0.1 + 0.2, (1.005).toFixed(2), (1234.5678).toFixed(1), 1e21, -1e-7, 2 ** 53, NaN, Infinity, (255).toString(2), parseInt("08"), +"0x1f", 5e-324];
  },
  function (bytes) {
    var map = new Map(bytes.map((byte, at) => [at, byte]));
    return { ...Object.fromEntries(map), set: [...new Set(bytes)].sort((a, b) => a - b), last: bytes.at?.(-1) ?? "none", flat: [[1], [bytes]].flat(2) };
  },
  function (bytes) { return missing.field; },
  function (bytes) {
    try {
      return decodeURIComponent(escape(String.fromCharCode.apply(null, bytes)));
    } catch (error) {
      return error.name;
    }
  },
];
