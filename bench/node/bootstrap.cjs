// What Lambda's managed Node runtime does, and no more: loads the function, then asks the Runtime API
// for one event after another over a connection that stays open. `node bootstrap.cjs dist/get-totals.js`
const http = require("node:http");
const path = require("node:path");

const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function request(method, action, body) {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
    const options = { hostname, port, method, agent, headers, path: `/2018-06-01/runtime/invocation/${action}` };
    const sent = http.request(options, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(parts).toString() }));
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

async function run() {
  const { handler } = require(path.resolve(process.argv[2]));
  for (;;) {
    const { headers, body } = await request("GET", "next");
    const id = headers["lambda-runtime-aws-request-id"];
    try {
      await request("POST", `${id}/response`, JSON.stringify(await handler(JSON.parse(body))));
    } catch (error) {
      await request("POST", `${id}/error`, JSON.stringify({ errorMessage: String(error) }));
    }
  }
}

run();
