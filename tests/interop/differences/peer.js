// Node's server (argument: http), or its parser llhttp without the checks that the server adds (argument: llhttp).
// Each answers every request with its method and its content.
'use strict';
const http = require('http');
const net = require('net');

function answer(status, text, end) {
  return `HTTP/1.1 ${status} x\r\nContent-Length: ${Buffer.byteLength(text)}\r\n${end ? 'Connection: close\r\n' : ''}\r\n${text}`;
}

function nodeServer() {
  return http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => response.end(`${request.method} ${Buffer.concat(parts)}`));
  });
}

function parserServer() {
  const { HTTPParser, methods } = process.binding('http_parser');
  return net.createServer((socket) => {
    const parser = new HTTPParser();
    parser.initialize(HTTPParser.REQUEST, {});
    let method, keep, parts;
    parser[HTTPParser.kOnHeaders] = () => {};
    parser[HTTPParser.kOnHeadersComplete] = (major, minor, fields, number, url, status, reason, upgrade, keepAlive) => {
      [method, keep, parts] = [methods[number], keepAlive, []];
    };
    parser[HTTPParser.kOnBody] = (part) => { parts.push(part); };
    parser[HTTPParser.kOnMessageComplete] = () => {
      if (socket.writable) socket.write(answer(200, `${method} ${Buffer.concat(parts)}`, !keep));
      if (!keep) socket.end();
    };
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      while (socket.writable && bytes.length > 0) {
        const read = parser.execute(bytes);
        if (read instanceof Error) {
          socket.end(answer(read.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400, '', true));
          return;
        }
        bytes = bytes.subarray(read);
        if (bytes.length > 0) parser.initialize(HTTPParser.REQUEST, {}); // it stops behind an Upgrade
      }
    });
  });
}

process.removeAllListeners('warning');
const server = process.argv[2] === 'http' ? nodeServer() : parserServer();
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
