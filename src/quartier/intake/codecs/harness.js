// The surroundings of one codec inside its QuickJS context: finds the functions it offers, calls them, and
// writes their results as JSON within the limits. Written for a hostile neighbour in the same context:
// - every builtin is captured before the codec runs and only called through Reflect.apply;
// - no iteration protocol, no method of a codec's object, no `toJSON`, no coercion of a codec's value, except
//   where running the codec's code is meant (reading a property may run its getter);
// - every exception is caught in here, because the binding turns an escaped one into text outside the CPU limit.
// Value: (pad, outputLimit, depthLimit) => call(mode, text). `pad` is as many line ends as this file has lines,
// so that a stack frame beyond it is known to be the codec's.
(function () {
  "use strict";

  const apply = Reflect.apply;
  const getPrototypeOf = Object.getPrototypeOf;
  const keysOf = Object.keys;
  const isArray = Array.isArray;
  const isView = ArrayBuffer.isView;
  const parse = JSON.parse;
  const stringify = JSON.stringify;
  const isSafeInteger = Number.isSafeInteger;
  const toNumber = Number;
  const toText = String;
  const globalEval = eval; // called by another name it is an indirect eval: global scope, sloppy mode
  const NativeDate = Date;
  const DatePrototype = Date.prototype;
  const toISOString = DatePrototype.toISOString;
  const getTime = DatePrototype.getTime;
  const isPrototypeOf = Object.prototype.isPrototypeOf;
  const PromisePrototype = Promise.prototype;
  const NumberPrototype = Number.prototype;
  const numberValue = NumberPrototype.valueOf;
  const StringPrototype = String.prototype;
  const stringValue = StringPrototype.valueOf;
  const BooleanPrototype = Boolean.prototype;
  const booleanValue = BooleanPrototype.valueOf;
  const toWellFormed = StringPrototype.toWellFormed;
  const indexOf = StringPrototype.indexOf;
  const slice = StringPrototype.slice;
  const split = StringPrototype.split;
  const join = Array.prototype.join;
  const TypedPrototype = getPrototypeOf(Uint8Array.prototype);
  const typedLength = Object.getOwnPropertyDescriptor(TypedPrototype, "length").get;
  const define = Object.defineProperty;

  const NONE = [];
  const LOG_LINES = 100;
  const LOG_LINE_LENGTH = 500;
  const LOG_LENGTH = 8000;
  const NOTE_LIMIT = 20;
  const TEXT_LENGTH = 500;
  const SHOW_LENGTH = 4000;
  const InternalErrorPrototype = InternalError.prototype;

  // Modes of `call`, the same numbers as in wire.py.
  const LOAD = 0;
  const DECODE_UPLINK = 1;
  const ENCODE_DOWNLINK = 2;
  const DECODE_DOWNLINK = 3;
  const TAKE_LOG = 4;

  const isA = (prototype, value) => apply(isPrototypeOf, prototype, [value]);

  return function (pad, outputLimit, depthLimit) {
    // A limit stops the writing by throwing STOP, which no codec's code can have seen before it is caught here.
    const STOP = { __proto__: null };
    let stopReason = "";
    let stopDetail = "";

    let left = 0; // characters that the output may still take
    let notes = ""; // JSON strings, comma-separated: what had to be changed in the output
    let noteCount = 0;
    let log = "";
    let logCount = 0;
    let logLength = 0;
    let logFull = false;

    const stop = (reason, detail) => {
      stopReason = reason;
      stopDetail = detail;
      throw STOP;
    };

    const clip = (text, length) =>
      text.length > length ? apply(slice, text, [0, length - 1]) + "…" : text;

    // JSON text of a string. PostgreSQL cannot hold U+0000, so it is dropped; lone surrogates become U+FFFD.
    const quote = (text) => {
      const simple = stringify(text);
      if (simple.length === text.length + 2) {
        return simple; // nothing was escaped: neither of the two is in it
      }
      const parts = apply(split, apply(toWellFormed, text, NONE), ["\u0000"]);
      return stringify(apply(join, parts, [""]));
    };

    const note = (text) => {
      noteCount += 1;
      if (noteCount <= NOTE_LIMIT) {
        notes += (notes === "" ? "" : ",") + quote(clip(text, TEXT_LENGTH));
      }
    };

    const spend = (length) => {
      left -= length;
      if (left < 0) {
        stop("output_limit", "the result is larger than " + outputLimit + " characters of JSON");
      }
    };

    const writeNumber = (value, key) => {
      if (value - value === 0) {
        let text = "" + value;
        if ((value > 9007199254740991 || value < -9007199254740991) && value < 1e21 && value > -1e21) {
          // As an integer it would be read digit by digit, and the last digits are only those that suffice for a double.
          text += ".0";
        }
        spend(text.length + 1);
        return text;
      }
      note(key + ": " + value + " is not a measured value, null in its place");
      spend(5);
      return "null";
    };

    const writeText = (value) => {
      spend(value.length + 3);
      return quote(value);
    };

    const writeBig = (value, key) => {
      const number = toNumber(value);
      if (isSafeInteger(number)) {
        return writeNumber(number, key);
      }
      spend(2);
      note(key + ": an integer beyond 2^53 is given as text");
      const text = toText(value);
      spend(text.length + 3);
      return '"' + text + '"';
    };

    const writeDate = (value, key) => {
      const time = apply(getTime, value, NONE);
      if (time - time !== 0) {
        note(key + ": an invalid date, null in its place");
        spend(5);
        return "null";
      }
      return writeText(apply(toISOString, value, NONE));
    };

    const writeItems = (value, count, depth, key) => {
      if (!(count * 2 <= left)) {
        spend(count * 2);
      }
      let text = "";
      for (let i = 0; i < count; i += 1) {
        const item = write(value[i], depth, key);
        if (item === undefined) {
          spend(5);
        }
        text += (i === 0 ? "" : ",") + (item === undefined ? "null" : item);
      }
      return "[" + text + "]";
    };

    // JSON text of any value, or undefined where JSON has none (function, symbol, undefined). `depth` is the number
    // of containers around it; a cycle ends at the depth limit, a lattice of shared objects at the output limit.
    const write = (value, depth, key) => {
      switch (typeof value) {
        case "number":
          return writeNumber(value, key);
        case "string":
          return writeText(value);
        case "boolean":
          spend(6);
          return value ? "true" : "false";
        case "bigint":
          return writeBig(value, key);
        case "object":
          break;
        default:
          return undefined;
      }
      if (value === null) {
        spend(5);
        return "null";
      }
      if (depth >= depthLimit) {
        stop("depth_limit", "the result is nested deeper than " + depthLimit + " levels");
      }
      spend(2);
      if (isArray(value)) {
        const length = value.length;
        return writeItems(value, typeof length === "number" ? length : 0, depth + 1, key);
      }
      const prototype = getPrototypeOf(value);
      if (isView(value) && isA(TypedPrototype, value)) {
        return writeItems(value, apply(typedLength, value, NONE), depth + 1, key);
      }
      if (isA(DatePrototype, value)) {
        return writeDate(value, key);
      }
      if (prototype === NumberPrototype) {
        return writeNumber(apply(numberValue, value, NONE), key);
      }
      if (prototype === StringPrototype) {
        return writeText(apply(stringValue, value, NONE));
      }
      if (prototype === BooleanPrototype) {
        return apply(booleanValue, value, NONE) ? "true" : "false";
      }
      const names = keysOf(value);
      let text = "";
      for (let i = 0; i < names.length; i += 1) {
        const name = names[i];
        const item = write(value[name], depth + 1, name);
        if (item !== undefined) {
          spend(name.length + 4);
          text += (text === "" ? "" : ",") + quote(name) + ":" + item;
        }
      }
      return "{" + text + "}";
    };

    // A short text of any value for people: error messages, warnings, log lines.
    const show = (value) => {
      if (typeof value === "string") {
        return clip(value, TEXT_LENGTH);
      }
      const leftBefore = left;
      const notesBefore = notes;
      const noteCountBefore = noteCount;
      left = SHOW_LENGTH;
      let text;
      try {
        text = typeof value === "number" ? "" + value : write(value, 0, "");
        if (text === undefined) {
          text = typeof value;
        }
      } catch (error) {
        text = "[" + typeof value + "]";
      }
      left = leftBefore;
      notes = notesBefore;
      noteCount = noteCountBefore;
      return clip(text, TEXT_LENGTH);
    };

    const record = function () {
      if (logCount >= LOG_LINES || logLength >= LOG_LENGTH) {
        if (!logFull) {
          logFull = true;
          log += ',"… (further lines are not kept)"';
        }
        return;
      }
      let line = "";
      for (let i = 0; i < arguments.length && line.length < LOG_LINE_LENGTH; i += 1) {
        line += (i === 0 ? "" : " ") + show(arguments[i]);
      }
      line = clip(line, LOG_LINE_LENGTH);
      logCount += 1;
      logLength += line.length;
      log += (log === "" ? "" : ",") + quote(line);
    };

    // A list of texts as TS013's `warnings` and `errors`; also a single text, as some codecs return.
    const writeTexts = (value) => {
      if (value === undefined || value === null || value === false || value === "") {
        return "[]";
      }
      if (!isArray(value)) {
        return "[" + quote(show(value)) + "]";
      }
      let text = "";
      const length = value.length;
      for (let i = 0; i < length && i < NOTE_LIMIT; i += 1) {
        text += (i === 0 ? "" : ",") + quote(show(value[i]));
      }
      return "[" + text + "]";
    };

    // The line in the codec of the innermost stack frame that is the codec's own, or 0.
    const lineOf = (stack) => {
      let at = 0;
      for (;;) {
        at = apply(indexOf, stack, ["<input>:", at]);
        if (at < 0) {
          return 0;
        }
        at += 8;
        let end = at;
        while (end < stack.length && stack[end] >= "0" && stack[end] <= "9") {
          end += 1;
        }
        const line = toNumber(apply(slice, stack, [at, end])) - pad.length;
        if (line > 0) {
          return line;
        }
      }
    };

    const describe = (error) => {
      try {
        return describeAny(error);
      } catch (another) {
        return fault("-", "script_error", "threw something that cannot be read", 0);
      }
    };

    const describeAny = (error) => {
      let name = "";
      let message;
      let line = 0;
      let reason = "script_error";
      if (error === null) {
        // With no memory left for an error object, the engine throws null.
        return fault("-", "memory_limit", "used more memory than allowed (or threw null)", 0);
      }
      if (typeof error === "object") {
        if (typeof error.name === "string") {
          name = clip(error.name, 60);
        }
        if (typeof error.message === "string") {
          message = clip(error.message, TEXT_LENGTH);
        }
        if (typeof error.stack === "string") {
          line = lineOf(error.stack);
        }
        if (message === "out of memory" && isA(InternalErrorPrototype, error)) {
          reason = "memory_limit";
        } else if (message === "Maximum call stack size exceeded" && name === "RangeError") {
          reason = "stack_limit";
        }
      }
      if (message === undefined) {
        message = show(error);
      }
      const text = (name === "" ? "" : name + ": ") + message + (line > 0 ? " (line " + line + ")" : "");
      return fault("-", reason, text, line);
    };

    // "-" asks for a new context, "*" is an answer that left nothing broken behind.
    const fault = (sign, reason, detail, line) =>
      sign + '{"reason":"' + reason + '","detail":' + quote(detail) + ',"line":' + line + ',"log":[' + log + "]}";

    const notAnObject = (value) =>
      value === undefined ? "nothing" : value === null ? "null" : isArray(value) ? "a list" : "a " + typeof value;

    const checkAnswer = (name, answer) => {
      if (typeof answer !== "object" || answer === null || isArray(answer)) {
        stop("bad_output", name + " returned " + notAnObject(answer) + " instead of an object");
      }
      if (isA(PromisePrototype, answer)) {
        stop("bad_output", name + " returned a promise; codecs must answer at once");
      }
    };

    const finish = (data, port, warnings, errors) =>
      '+{"data":' + data +
      (port === "" ? "" : ',"port":' + port) +
      (warnings === "[]" ? "" : ',"warnings":' + warnings) +
      (errors === "[]" ? "" : ',"errors":' + errors) +
      (notes === "" ? "" : ',"notes":[' + notes + "]") +
      (log === "" ? "" : ',"log":[' + log + "]") +
      "}";

    const finishData = (name, answer) => {
      const errors = writeTexts(answer.errors);
      const warnings = writeTexts(answer.warnings);
      if (errors !== "[]") {
        return finish("{}", "", warnings, errors);
      }
      const data = answer.data;
      if (typeof data !== "object" || data === null || isArray(data)) {
        stop("bad_output", name + " returned " + notAnObject(data) + " as data instead of an object");
      }
      return finish(write(data, 0, "data"), "", warnings, "[]");
    };

    const finishBytes = (name, bytes, port, warnings, errors) => {
      if (errors !== "[]") {
        return finish("[]", "", warnings, errors);
      }
      if (!isArray(bytes) && !isView(bytes)) {
        stop("bad_output", name + " returned " + notAnObject(bytes) + " instead of a list of bytes");
      }
      return finish(write(bytes, 0, "bytes"), typeof port === "number" ? writeNumber(port, "fPort") : "", warnings, "[]");
    };

    let offers = NONE;
    // The order is that of NAMES; the codec's own `let` and `const` are seen because the question is part of its text.
    const NAMES = ["decodeUplink", "Decoder", "Decode", "encodeDownlink", "Encoder", "Encode", "decodeDownlink"];
    let question = "\n;[";
    for (let i = 0; i < NAMES.length; i += 1) {
      question += (i === 0 ? "" : ",") + "typeof " + NAMES[i] + '=="function"?' + NAMES[i] + ":null";
    }
    question += "]";

    const moduleObject = { exports: {} };

    const load = (source) => {
      const found = globalEval(pad + source + question);
      const exported = moduleObject.exports;
      const hasExports = (typeof exported === "object" && exported !== null) || typeof exported === "function";
      const list = [];
      let names = "";
      for (let i = 0; i < NAMES.length; i += 1) {
        const other = hasExports ? exported[NAMES[i]] : null;
        const entry = typeof found[i] === "function" ? found[i] : typeof other === "function" ? other : null;
        define(list, i, { value: entry });
        if (entry !== null) {
          names += (names === "" ? "" : ",") + '"' + NAMES[i] + '"';
        }
      }
      offers = list;
      return finish("[" + names + "]", "", "[]", "[]");
    };

    const timed = (input) => {
      // TS013: recvTime is a Date; absent where the caller knows no time.
      if (typeof input.recvTime === "number") {
        input.recvTime = new NativeDate(input.recvTime);
      }
      return input;
    };

    const decodeUplink = (input) => {
      if (offers[0] !== null) {
        const answer = apply(offers[0], undefined, [timed(input)]);
        checkAnswer("decodeUplink", answer);
        return finishData("decodeUplink", answer);
      }
      const decoder = offers[1] !== null;
      if (!decoder && offers[2] === null) {
        stop("no_function", "the script has none of decodeUplink, Decoder and Decode");
      }
      const answer = decoder
        ? apply(offers[1], undefined, [input.bytes, input.fPort])
        : apply(offers[2], undefined, [input.fPort, input.bytes, input.variables]);
      checkAnswer(decoder ? "Decoder" : "Decode", answer);
      return finish(write(answer, 0, "data"), "", "[]", "[]");
    };

    const encodeDownlink = (input) => {
      if (offers[3] !== null) {
        const answer = apply(offers[3], undefined, [input]);
        checkAnswer("encodeDownlink", answer);
        return finishBytes(
          "encodeDownlink", answer.bytes, answer.fPort, writeTexts(answer.warnings), writeTexts(answer.errors));
      }
      if (offers[4] !== null) {
        return finishBytes("Encoder", apply(offers[4], undefined, [input.data, input.fPort]), "", "[]", "[]");
      }
      if (offers[5] !== null) {
        const answer = apply(offers[5], undefined, [input.fPort, input.data, input.variables]);
        return finishBytes("Encode", answer, "", "[]", "[]");
      }
      return stop("no_function", "the script has none of encodeDownlink, Encoder and Encode");
    };

    const decodeDownlink = (input) => {
      if (offers[6] === null) {
        stop("no_function", "the script has no decodeDownlink");
      }
      const answer = apply(offers[6], undefined, [timed(input)]);
      checkAnswer("decodeDownlink", answer);
      return finishData("decodeDownlink", answer);
    };

    const forget = (name) => delete globalThis[name];
    // Nothing a codec needs: shared memory only serves threads, and there are none.
    forget("Atomics");
    forget("SharedArrayBuffer");
    const offer = (name, value) =>
      define(globalThis, name, { value: value, writable: true, configurable: true, enumerable: false });
    offer("console", { log: record, info: record, warn: record, error: record, debug: record, trace: record });
    offer("module", moduleObject);
    offer("exports", moduleObject.exports);

    return function (mode, text) {
      if (mode === TAKE_LOG) {
        return apply(toWellFormed, "[" + log + "]", NONE);
      }
      left = outputLimit;
      notes = "";
      noteCount = 0;
      log = "";
      logCount = 0;
      logLength = 0;
      logFull = false;
      let answer;
      try {
        if (mode === LOAD) {
          answer = load(text);
        } else if (mode === DECODE_UPLINK) {
          answer = decodeUplink(parse(text));
        } else if (mode === ENCODE_DOWNLINK) {
          answer = encodeDownlink(parse(text));
        } else if (mode === DECODE_DOWNLINK) {
          answer = decodeDownlink(parse(text));
        }
      } catch (error) {
        answer = error === STOP ? fault("*", stopReason, stopDetail, 0) : describe(error);
      }
      // The binding cannot take a rope (a string still in pieces) over the border; this one joins it.
      return apply(toWellFormed, answer, NONE);
    };
  };
})()
