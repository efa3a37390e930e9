// A client of @grpc/grpc-js: asks a server, and writes what it was answered as lines of JSON.
//
//   node grpc_client.js ADDRESS PROTO [ROOT_CERTIFICATE]

const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, proto, root] = process.argv.slice(2);
const { inference } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true }));
const credentials = root
  ? grpc.credentials.createSsl(fs.readFileSync(root))
  : grpc.credentials.createInsecure();
const unlimited = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  "grpc.ssl_target_name_override": "localhost",
};

function connect(options = {}) {
  return new inference.GRPCInferenceService(address, credentials, { ...unlimited, ...options });
}

function request(size, model = "plain") {
  const content = Buffer.alloc(size);
  for (let at = 0; at < size; at += 1) content[at] = at % 251;
  return {
    model_name: model,
    inputs: [{ name: "INPUT0", datatype: "UINT8", shape: [size] }],
    raw_input_contents: [content],
  };
}

function infer(client, message, seconds = 60) {
  return new Promise((resolve) => {
    const deadline = Date.now() + seconds * 1000;
    client.ModelInfer(message, { deadline }, (error, answer) => {
      if (error) resolve({ code: error.code, details: error.details });
      else resolve({ same: answer.raw_output_contents[0].equals(message.raw_input_contents[0]) });
    });
  });
}

function stream(client, messages) {
  return new Promise((resolve) => {
    const call = client.ModelStreamInfer();
    const answers = [];
    call.on("data", (answer) => {
      const { raw_output_contents: contents } = answer.infer_response;
      answers.push(answer.error_message || contents[0].length);
    });
    call.on("status", (status) => resolve({ answers, code: status.code }));
    call.on("error", () => {});
    for (const message of messages) call.write(message);
    call.end();
  });
}

function cancelled(client) {
  return new Promise((resolve) => {
    const call = client.ModelStreamInfer();
    call.on("data", () => call.cancel());
    call.on("status", (status) => resolve({ code: status.code }));
    call.on("error", () => {});
    call.write(request(10));
  });
}

async function main() {
  const tell = (name, found) => console.log(JSON.stringify([name, found]));
  const client = connect();
  for (const size of [0, 1, 70000, 5000011]) tell(`unary ${size}`, await infer(client, request(size)));
  const many = await Promise.all(Array.from({ length: 300 }, (_, n) => infer(client, request(n))));
  tell("many", many.filter((found) => found.same).length);
  tell("error", await infer(client, request(1, "nöpe")));
  tell("stream", await stream(client, [1, 70000, 5000011, 0].map((size) => request(size))));
  tell("stream error", await stream(client, [request(1, "nope"), request(2)]));
  tell("cancelled", await cancelled(client));
  tell("deadline", await infer(client, request(1, "slow"), 0.5));
  client.close();
  for (const algorithm of [1, 2]) {
    const compressing = connect({ "grpc.default_compression_algorithm": algorithm });
    tell(`compression ${algorithm}`, await infer(compressing, request(1000000)));
    compressing.close();
  }
}

main();
