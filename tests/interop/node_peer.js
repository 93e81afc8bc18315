// Node.js at the other end: its http as a server or as a client, its fetch, and the packages undici and ws, if NODE_PATH leads
// to them. What is asked and answered is described in web_client.cpp; /socket sends messages back.
//
//     node_peer.js server                          prints `listening on ADDRESS:PORT (node)`
//     node_peer.js http | fetch | undici | ws URL  asks, compares, and says how much came
"use strict";
const assert = require("assert"), http = require("http"), { once } = require("events");
const numbers = Array.from({ length: 1000 }, (_, number) => `${number}\n`).join("");
const large = Buffer.alloc(1_000_000, "x");

function answer(request, response) {
  if (request.url === "/") return response.end("hello\n");
  if (request.url === "/echo") return request.pipe(response);
  if (request.url !== "/parts") return response.writeHead(404).end("not here");
  for (let number = 0; number < 1000; ++number) response.write(`${number}\n`);
  response.end();
}

function serve() {
  const server = http.createServer(answer);
  try {
    const sockets = new (require("ws").WebSocketServer)({ server, perMessageDeflate: true });
    sockets.on("connection", (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })));
  } catch { /* ws is not installed */ }
  server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port} (node)`));
}

async function ask(url) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let reused = 0, continued = 0;
  async function exchange(method, path, { headers = {}, parts = [] } = {}) {
    const request = http.request(url + path, { agent, method, headers });
    request.on("continue", () => { ++continued; request.end(parts[0]); });
    if (!headers.Expect) {
      for (const part of parts) request.write(part);
      request.end();
    } else {
      request.flushHeaders();
    }
    const [response] = await once(request, "response");
    if (request.reusedSocket) ++reused;
    const received = [];
    for await (const part of response) received.push(part);
    return [response.statusCode, Buffer.concat(received).toString()];
  }
  const length = { "Content-Length": large.length };
  assert.deepEqual(await exchange("GET", "/"), [200, "hello\n"]);
  assert.deepEqual(await exchange("GET", "/parts"), [200, numbers]);
  assert.deepEqual(await exchange("HEAD", "/"), [200, ""]);
  assert.deepEqual(await exchange("POST", "/echo", { headers: length, parts: [large] }), [200, large.toString()]);
  assert.deepEqual(await exchange("POST", "/echo", { headers: { ...length, Expect: "100-continue" }, parts: [large] }), [200, large.toString()]);
  assert.deepEqual(await exchange("PUT", "/echo", { parts: ["one, ", "two, ", "three"] }), [200, "one, two, three"]);
  assert.equal((await exchange("GET", "/absent"))[0], 404);
  console.log(`${reused + 1} answers on one connection, ${continued} continued`);
  agent.destroy();
}

async function fetchAll(url) {
  const counts = [];
  async function* content() { yield Buffer.from("one, "); yield Buffer.from("two, "); yield large; }
  const parts = await fetch(url + "/parts");
  counts.push((await parts.text()).length);
  const echo = await fetch(url + "/echo", { method: "POST", duplex: "half", body: content() });
  let size = 0;
  for await (const part of echo.body) size += part.length;
  counts.push(size);
  console.log(`fetched ${counts}`);
}

async function pipeline(url) {
  const { Client } = require("undici"), client = new Client(url, { pipelining: 10 });
  const texts = await Promise.all(Array.from({ length: 100 }, async (_, number) => {
    const { statusCode, body } = await client.request({ method: "GET", path: number % 2 ? "/parts" : "/" });
    return `${statusCode} ${await body.text()}`;
  }));
  texts.forEach((text, number) => assert.equal(text, number % 2 ? `200 ${numbers}` : "200 hello\n"));
  const { body } = await client.request({ method: "PUT", path: "/echo", body: large });
  assert.equal(await body.text(), large.toString());
  await client.close();
  console.log(`${texts.length + 1} answers`);
}

async function converse(url) {
  const { WebSocket } = require("ws"), socket = new WebSocket(url.replace("http", "ws"), { perMessageDeflate: true });
  await once(socket, "open");
  let count = 0;
  for (const size of [0, 1, 125, 126, 65535, 65536, 1_000_000]) {
    for (const message of ["ä".repeat(size), Buffer.alloc(size)]) {
      socket.send(message);
      const [data, binary] = await once(socket, "message");
      assert.equal(binary, typeof message !== "string");
      assert.equal(data.compare(Buffer.from(message)), 0);
      ++count;
    }
  }
  socket.send("one, ", { fin: false });
  socket.ping("sign");
  socket.send("two", { fin: true });
  const [[pong], [whole]] = await Promise.all([once(socket, "pong"), once(socket, "message")]);
  assert.equal(pong + " " + whole, "sign one, two");
  socket.close(1000);
  const [code] = await once(socket, "close");
  console.log(`${count + 1} messages, ${socket.extensions || "plain"}, closed with ${code}`);
}

const [, , what, url] = process.argv;
const asked = { server: serve, http: ask, fetch: fetchAll, undici: pipeline, ws: converse }[what](url);
Promise.resolve(asked).catch((error) => { console.error(error); process.exitCode = 1; });
