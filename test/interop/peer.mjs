// One end of a transfer, the same program on two stacks: Linux's, or NetPopcorn's on a TAP device.
//   node peer.mjs server PORT [TAP CIDR CONGESTION]
//   node peer.mjs get|put ADDRESS PORT BYTES SECONDS [TAP CIDR CONGESTION]
// The server reads a line, "get N" or "put N". For get it sends N bytes; for put it reads until the client's FIN and
// answers with how many came and whether they were right. Byte i of a stream is content(i). A client ends after BYTES
// or SECONDS, whichever is first (put: BYTES only), and prints {"bytes", "seconds", "right"}.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import nodeNet from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const PERIOD = 65_521;
const period = Buffer.from(Array.from({ length: PERIOD }, (_, i) => (i * 131 + (i >> 7)) & 255));
const content = Buffer.concat([period, period, period]);
const pieceAt = (at, bytes) => content.subarray(at % PERIOD, (at % PERIOD) + Math.min(bytes, 65_536));

function isRight(data, at) {
  for (let done = 0; done < data.length; ) {
    const piece = pieceAt(at + done, data.length - done);
    if (data.compare(piece, 0, piece.length, done, done + piece.length) !== 0) return false;
    done += piece.length;
  }
  return true;
}

/** Writes `bytes` of content, as the socket takes them, then ends the socket's sending side. */
function pump(socket, bytes) {
  let at = 0;
  const more = () => {
    while (at < bytes && !socket.destroyed) {
      const piece = pieceAt(at, bytes - at);
      at += piece.length;
      if (!socket.write(piece)) {
        socket.once("drain", more);
        return;
      }
    }
    if (!socket.destroyed) socket.end();
  };
  more();
}

const CONGESTION = { reno: 0, cubic: 1, bbr: 2 };

const BRIDGE_PORT_FORWARDING = "3";

/**
 * The host looks at a device that has come up within a second; until then its bridge takes no frame of it. A first
 * packet lost there would be a second of the measurement.
 */
async function bridgeForwards(tap) {
  for (let waitedMs = 0; waitedMs < 10_000; waitedMs += 20) {
    if (readFileSync(`/sys/class/net/${tap}/brport/state`, "latin1").trim() === BRIDGE_PORT_FORWARDING) return;
    await sleep(20);
  }
  throw new Error(`the bridge of ${tap} does not forward`);
}

/** node:net, or the same on a stack of our own. */
async function openNet(tap, cidr, congestion) {
  if (tap === undefined) return { net: nodeNet, close: async () => undefined };
  const { createStack, openTap } = await import("../../dist/index.js");
  const { createNet } = await import("../../dist/net/index.js");
  // Both ends may be ours, with a device of the same name: its address would be the same, too.
  const mac = Uint8Array.of(2, ...createHash("sha256").update(cidr).digest().subarray(0, 5));
  const device = await openTap({ name: tap, queues: 1, mac });
  // The seed makes ports, one of which may still be in TIME-WAIT.
  const tuning = { congestionControl: CONGESTION[congestion] };
  const stack = await createStack({ device, address: cidr, seed: process.pid, tuning });
  await bridgeForwards(tap);
  const close = async () => {
    await stack.close({ drainMs: 200 });
    await device.close();
  };
  return { net: createNet(stack), close };
}

function serve(socket) {
  let head = "";
  let received = 0;
  let right = true;
  let put = false;
  socket.on("error", () => undefined);
  socket.on("data", (data) => {
    if (!put) {
      const end = data.indexOf(10);
      head += data.subarray(0, end < 0 ? data.length : end).toString("latin1");
      if (end < 0) return;
      const [command, bytes] = head.split(" ");
      if (command === "get") {
        pump(socket, Number(bytes));
        return;
      }
      put = true;
      data = data.subarray(end + 1);
    }
    right &&= isRight(data, received);
    received += data.length;
  });
  socket.on("end", () => socket.end(put ? JSON.stringify({ bytes: received, right }) : undefined));
}

async function client(net, role, address, port, bytes, seconds) {
  const start = performance.now();
  const socket = net.connect({ host: address, port, allowHalfOpen: true });
  const result = { bytes: 0, right: true };
  let answer = "";
  const timer = role === "get" ? setTimeout(() => socket.destroy(), seconds * 1000) : undefined;
  socket.on("connect", () => {
    socket.write(`${role} ${bytes}\n`);
    if (role === "put") pump(socket, bytes);
  });
  socket.on("data", (data) => {
    if (role === "put") {
      answer += data.toString("latin1");
      return;
    }
    result.right &&= isRight(data, result.bytes);
    result.bytes += data.length;
  });
  socket.on("end", () => socket.end());
  await new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("close", resolve);
  });
  clearTimeout(timer);
  return { ...result, ...(answer === "" ? {} : JSON.parse(answer)), seconds: (performance.now() - start) / 1000 };
}

const [role, ...rest] = process.argv.slice(2);
if (role === "server") {
  const [port, ...ours] = rest;
  const { net } = await openNet(...ours);
  const server = net.createServer({ allowHalfOpen: true }, serve);
  server.listen(Number(port), () => console.log("ready"));
} else {
  const [address, port, bytes, seconds, ...ours] = rest;
  const { net, close } = await openNet(...ours);
  console.log(JSON.stringify(await client(net, role, address, Number(port), Number(bytes), Number(seconds))));
  await close();
  process.exit(0);
}
