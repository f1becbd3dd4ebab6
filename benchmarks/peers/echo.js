// Echo of frames with a 4-byte big-endian length, on Node's net: frames are cut out of each chunk, and what one chunk
// brought is written at once. It prints its port, and ends with its standard input.
"use strict";
const net = require("net");

const MOST = 1 << 20;

const server = net.createServer({ noDelay: true }, (socket) => {
  let kept = null;
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    const buffer = kept === null ? chunk : Buffer.concat([kept, chunk]);
    const replies = [];
    let at = 0;
    while (buffer.length - at >= 4) {
      const length = buffer.readUInt32BE(at);
      if (length > MOST) return socket.destroy();
      if (buffer.length - at < 4 + length) break;
      const message = buffer.subarray(at + 4, at + 4 + length);
      const header = Buffer.allocUnsafe(4);
      header.writeUInt32BE(message.length, 0);
      replies.push(header, message);
      at += 4 + length;
    }
    kept = at === buffer.length ? null : buffer.subarray(at);
    if (replies.length > 0) socket.write(Buffer.concat(replies));
  });
});
server.listen(0, "127.0.0.1", 1024, () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
