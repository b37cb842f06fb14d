// Asks the independent implementation `lora-packet`: an array of jobs in, an array of answers out, both JSON, bytes as hex.

import lora from "lora-packet";

const bytes = (hex) => Buffer.from(hex, "hex");
const optional = (hex) => (hex === undefined ? undefined : bytes(hex));
const hex = (buffer) => Buffer.from(buffer).toString("hex");
const all = (keys) => Object.fromEntries(Object.entries(keys).map(([name, key]) => [name, hex(key)]));

const jobs = {
  // A data frame: what it says in the clear, and whether its MIC fits.
  open(job) {
    const frame = lora.fromWire(bytes(job.phy));
    const high = bytes(job.high);
    const fits = lora.verifyMIC(frame, bytes(job.f_key), optional(job.s_key), high, optional(job.confirmed));
    return {
      fits,
      type: frame.getMType(),
      dev_addr: hex(frame.DevAddr),
      frame_counter: frame.getFCnt(),
      adr: frame.getFCtrlADR(),
      ack: frame.getFCtrlACK(),
      pending: frame.getFCtrlFPending(),
      port: frame.getFPort(),
      payload: hex(lora.decrypt(frame, bytes(job.app_key), bytes(job.enc_key), high)),
      options: hex(
        job.s_key && frame.FOpts.length ? frame.decryptFOpts(bytes(job.enc_key), undefined, high) : frame.FOpts
      ),
    };
  },
  // A data frame made there.
  seal(job) {
    const frame = lora.fromFields(
      {
        MType: job.type,
        DevAddr: bytes(job.dev_addr),
        FCtrl: { ADR: job.adr, ADRACKReq: job.adr_ack_request, ACK: job.ack, FPending: job.pending },
        FCnt: job.frame_counter,
        FOpts: bytes(job.options),
        FPort: job.port,
        payload: bytes(job.payload),
      },
      bytes(job.app_key),
      bytes(job.f_key),
      optional(job.s_key),
      bytes(job.high),
      optional(job.confirmed)
    );
    return { phy: hex(frame.PHYPayload) };
  },
  join_request(job) {
    const fields = { AppEUI: bytes(job.join_eui), DevEUI: bytes(job.dev_eui), DevNonce: bytes(job.dev_nonce) };
    return { phy: hex(lora.fromFields(fields, undefined, undefined, bytes(job.key)).PHYPayload) };
  },
  join_accept(job) {
    const fields = {
      AppNonce: bytes(job.join_nonce),
      NetID: bytes(job.net_id),
      DevAddr: bytes(job.dev_addr),
      DLSettings: bytes(job.settings),
      RxDelay: bytes(job.rx_delay),
      CFList: bytes(job.channel_list),
      AppEUI: bytes(job.join_eui),
      DevNonce: bytes(job.dev_nonce),
    };
    return { phy: hex(lora.fromFields({ MType: 1, ...fields }, undefined, optional(job.js_int_key), bytes(job.key)).PHYPayload) };
  },
  rejoin_fits(job) {
    const frame = lora.fromWire(bytes(job.phy));
    return { fits: lora.verifyMIC(frame, bytes(job.s_key), bytes(job.js_int_key)) };
  },
  keys(job) {
    const [app, nwk, nonce, dev] = [bytes(job.app_key), bytes(job.nwk_key), bytes(job.join_nonce), bytes(job.dev_nonce)];
    return {
      v1_0: all(lora.generateSessionKeys10(app, bytes(job.net_id), nonce, dev)),
      v1_1: all(lora.generateSessionKeys11(app, nwk, bytes(job.join_eui), nonce, dev)),
      join_server: all(lora.generateJSKeys(nwk, bytes(job.dev_eui))),
    };
  },
};

let input = "";
process.stdin.on("data", (chunk) => (input += chunk));
process.stdin.on("end", () => {
  process.stdout.write(JSON.stringify(JSON.parse(input).map((job) => jobs[job.do](job))));
});
