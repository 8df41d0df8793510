// A client on Linux's own sockets: node socketClient.mjs ROLE ADDRESS PORT CONNECTIONS BYTES (of each connection).
//   send     sends, half-closes, and waits for the server's FIN
//   chargen  receives at least BYTES of RFC 864's pattern, checked byte for byte, then closes
//   echo     sends, half-closes, and receives the same bytes back
// Prints a JSON array of {sent, received}; exits with 1 and a message when a byte or an end is not as it should be.
import { connect } from "node:net";

const [role, address, port, connections, bytes] = process.argv.slice(2).map((text, i) => (i < 2 ? text : Number(text)));
const PIECE_BYTES = 1 << 16;

// RFC 864: lines of 72 of the 95 printable characters, each starting one further, with CR and LF.
const line = (first) => Array.from({ length: 72 }, (_, i) => String.fromCharCode(32 + ((first + i) % 95))).join("");
const chargen = Buffer.from(Array.from({ length: 95 }, (_, first) => `${line(first)}\r\n`).join(""));

/** `pieceBytes` of the stream that we send, from position `at` on: repeats after 65,521 bytes, a prime. */
const PERIOD = 65_521;
const period = Buffer.from(Array.from({ length: PERIOD }, (_, i) => (i * 131 + (i >> 7)) & 255));
const stream = Buffer.concat([period, period, period]);
const piece = (at, pieceBytes) => stream.subarray(at % PERIOD, (at % PERIOD) + pieceBytes);

function matches(data, pattern, at) {
  for (let done = 0; done < data.length; ) {
    const from = (at + done) % pattern.length;
    const length = Math.min(pattern.length - from, data.length - done);
    if (data.compare(pattern, from, from + length, done, done + length) !== 0) return false;
    done += length;
  }
  return true;
}

function run() {
  return new Promise((resolve, reject) => {
    const counts = { sent: 0, received: 0 };
    const socket = connect({ host: address, port, allowHalfOpen: true });
    socket.setTimeout(60_000, () => reject(new Error(`nothing for 60 s after ${JSON.stringify(counts)}`)));
    const send = () => {
      while (counts.sent < bytes) {
        const part = piece(counts.sent, Math.min(PIECE_BYTES, bytes - counts.sent));
        counts.sent += part.length;
        if (!socket.write(part)) return;
      }
      socket.removeListener("drain", send);
      socket.end();
    };
    socket.on("data", (data) => {
      const pattern = role === "chargen" ? chargen : period;
      if (!matches(data, pattern, counts.received)) reject(new Error(`wrong byte after ${counts.received}`));
      counts.received += data.length;
      if (role === "chargen" && counts.received >= bytes) {
        socket.destroy();
        resolve(counts);
      }
    });
    socket.on("end", () => {
      if (role === "chargen") reject(new Error(`the server ended after ${counts.received}`));
      resolve(counts);
    });
    socket.on("error", reject);
    if (role !== "chargen") socket.on("drain", send).once("connect", send);
  });
}

try {
  process.stdout.write(JSON.stringify(await Promise.all(Array.from({ length: connections }, run))));
} catch (error) {
  console.error(`${role}: ${error.message}`);
  process.exit(1);
}
