// Minimal Lambda runtime for Node, like Lambda's managed runtime: loads a function, then requests one event
// after another from the Runtime API over a persistent connection.
// Usage: node bootstrap.cjs dist/get-totals.js
const http = require("node:http");
const path = require("node:path");

const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function send(method, action, body) {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
    const options = { hostname, port, method, agent, headers, path: `/2018-06-01/runtime/invocation/${action}` };
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function run() {
  const { handler } = require(path.resolve(process.argv[2]));
  for (;;) {
    const { headers, body } = await send("GET", "next");
    const id = headers["lambda-runtime-aws-request-id"];
    try {
      await send("POST", `${id}/response`, JSON.stringify(await handler(JSON.parse(body))));
    } catch (error) {
      await send("POST", `${id}/error`, JSON.stringify({ errorMessage: String(error) }));
    }
  }
}

run();
