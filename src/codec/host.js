// What a codec finds around it, and the one function that calls it. Read before the codec, so that nothing the codec does to
// the realm's objects changes how it is called.
var console = { log() {}, info() {}, warn() {}, error() {}, debug() {}, trace() {} };
var module = { exports: {} };
var exports = module.exports;

(function () {
  const parse = JSON.parse, write = JSON.stringify, Real = Date;
  let now = 0;
  Date = new Proxy(Real, {
    construct: (target, given, made) =>
      Reflect.construct(target, given.length > 0 ? given : [now], made),
    apply: () => new Real(now).toString(),
    get: (target, name) => (name === "now" ? () => now : target[name]),
  });
  Real.prototype.constructor = Date;
  // As Node writes them in English; the engine knows no other language, and puts a zero before the hour.
  const date = (time) => `${time.getMonth() + 1}/${time.getDate()}/${time.getFullYear()}`;
  const two = (number) => String(number).padStart(2, "0");
  const clock = (time) =>
    `${time.getHours() % 12 || 12}:${two(time.getMinutes())}:${two(time.getSeconds())} ${time.getHours() < 12 ? "AM" : "PM"}`;
  const written = (how) => function () { return Number.isNaN(this.getTime()) ? "Invalid Date" : how(this); };
  Real.prototype.toLocaleDateString = written(date);
  Real.prototype.toLocaleTimeString = written(clock);
  Real.prototype.toLocaleString = written((time) => `${date(time)}, ${clock(time)}`);
  // Codecs hand on what the engine says of a mistake, and suites expect Node's words for the commonest ones. Only built-in errors have
  // no words of their own when they come by here.
  const WORDS = [
    [/^cannot read property '([^]*)' of (undefined|null)$/, "Cannot read properties of $2 (reading '$1')"],
    [/^cannot set property '([^]*)' of (undefined|null)$/, "Cannot set properties of $2 (setting '$1')"],
    [/^'[^']*' is read-only$/, "Assignment to constant variable."],
    [/^invalid array length$/, "Invalid array length"],
    [/^([^]* in JSON at position \d+) \(line \d+ column \d+\)$/, "$1"],
  ];
  const replace = Function.prototype.call.bind(String.prototype.replace);
  Error.prepareStackTrace = (error) => {
    const { name, message } = error;
    if (typeof message !== "string") return String(name);
    for (const [said, words] of WORDS) {
      const told = replace(message, said, words);
      if (told !== message) {
        error.message = told;
        break;
      }
    }
    return `${name}: ${error.message}\n    at codec`;
  };
  let dice = 1;
  Math.random = () => (dice = (dice * 16807) % 2147483647) / 2147483647;

  // The answer as JSON, "null" for undefined; null if there is nothing to call. An empty question only asks whether there is.
  return function (question) {
    // Bundled codecs leave their functions in one of these; "driver" is what the Actility catalogue's bundles are called.
    const exported = (name) => {
      for (const held of [module.exports, exports, typeof driver === "undefined" ? null : driver]) {
        if (typeof held === "object" && held !== null && typeof held[name] === "function") return held[name];
      }
      return null;
    };
    const uplink = typeof decodeUplink === "function" ? decodeUplink : exported("decodeUplink");
    const decode = typeof Decode === "function" ? Decode : exported("Decode");
    const decoder = typeof Decoder === "function" ? Decoder : exported("Decoder");
    if (uplink === null && decode === null && decoder === null) return null;
    if (question === "") return "";
    const { bytes, fPort, receivedAt, recvTime, variables, onlyData } = parse(question);
    const port = fPort === null ? undefined : fPort;
    now = receivedAt;
    let answer;
    if (uplink !== null) {
      answer = uplink({ bytes, fPort: port, recvTime: new Real(recvTime ?? receivedAt), variables });
      if (onlyData && typeof answer === "object" && answer !== null) {
        const errors = [answer.errors ?? []].flat();
        if (errors.length > 0) throw new Error(errors.join("; "));
        answer = answer.data ?? answer;
      }
    } else if (decode !== null) {
      answer = decode(port, bytes, variables);
    } else {
      answer = decoder(bytes, port);
    }
    const text = write(answer);
    return text === undefined ? "null" : text;
  };
})();
