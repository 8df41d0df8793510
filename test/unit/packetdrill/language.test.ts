/**
 * Every construct of the packetdrill language does something: each script below holds, and no longer does once the one
 * thing that it is about says otherwise.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runScript } from "../../../src/packetdrill/run.ts";

const module = new WebAssembly.Module(readFileSync(new URL("../../../build/kernel.release.wasm", import.meta.url)));

function run(text: string, directory = ".") {
  return runScript({ file: "x.pkt", text, directory }, { module });
}

const LISTENING = ["0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3", "+0 bind(3, ..., ...) = 0", "+0 listen(3, 1) = 0"];
const SYN_RECEIVED = [
  ...LISTENING,
  "+0 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>",
  "+0 > S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale 8>",
];
/** Descriptor 4 is established. */
const ESTABLISHED = [...SYN_RECEIVED, "+.1 < . 1:1(0) ack 1 win 257", "+0 accept(3, ..., ...) = 4"];
const HAS_DATA = [...ESTABLISHED, "+0 < P. 1:1001(1000) ack 1 win 257"];
const UDP = ["0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3", "+0 bind(3, ..., ...) = 0", "+0 connect(3, ..., ...) = 0"];

function withControl(bytes: string, message: string): string {
  return `{msg_name(...)=..., msg_iov(1)=[{..., ${bytes}}], msg_flags=0, msg_control=[{${message}}]}`;
}

/** What it is about; the script; what to change in it, into what; what must be said then. */
type Row = readonly [string, readonly string[], string, string, RegExp];

function holdsAndFails([, lines, from, to, message]: Row): void {
  const text = lines.join("\n");
  expect(run(text)).toEqual({ outcome: "passed" });
  expect(text).toContain(from);
  const at = text.lastIndexOf(from);
  const wrong = run(text.slice(0, at) + to + text.slice(at + from.length));
  expect(wrong).toMatchObject({ outcome: "failed", error: expect.stringMatching(message) });
  expect("error" in wrong && wrong.error).toMatch(/^x\.pkt:\d+: /);
}

describe("system calls", () => {
  const rows: readonly Row[] = [
    ["recv", [...HAS_DATA, "+0 recv(4, ..., 2000, 0) = 1000"], "= 1000", "= 999", /recv returns 1000/],
    [
      "recvfrom",
      [...HAS_DATA, "+0 recvfrom(4, ..., 600, 0, ..., ...) = 600"],
      "= 600",
      "= 601",
      /recvfrom returns 600/,
    ],
    [
      "readv",
      [...HAS_DATA, "+0 readv(4, [{..., 300}, {..., 400}], 2) = 700"],
      "..., 400",
      "..., 401",
      /readv returns 701/,
    ],
    [
      "recvmsg",
      [...HAS_DATA, "+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 250}], msg_flags=0}, 0) = 250"],
      "{..., 250}",
      "{..., 251}",
      /recvmsg returns 251/,
    ],
    [
      "recvmsg, TCP_INQ",
      [
        ...HAS_DATA,
        "+0 setsockopt(4, SOL_TCP, TCP_INQ, [1], 4) = 0",
        `+0 recvmsg(4, ${withControl("250", "cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=750")}, 0) = 250`,
      ],
      "cmsg_data=750",
      "cmsg_data=749",
      /TCP_CM_INQ says 750/,
    ],
    [
      "MSG_PEEK leaves the bytes",
      [...HAS_DATA, "+0 recv(4, ..., 2000, MSG_PEEK) = 1000", "+0 recv(4, ..., 2000, 0) = 1000"],
      "2000, MSG_PEEK",
      "2000, 0",
      /recv blocks/,
    ],
    [
      "MSG_DONTWAIT",
      [...ESTABLISHED, "+0 recv(4, ..., 10, MSG_DONTWAIT) = -1 EAGAIN (Try again)"],
      "MSG_DONTWAIT",
      "0",
      /recv blocks/,
    ],
    [
      "MSG_WAITALL",
      [
        ...ESTABLISHED,
        "+0...0.2 recv(4, ..., 1500, MSG_WAITALL) = 1500",
        "+.1 < P. 1:1001(1000) ack 1 win 257",
        "+.1 < P. 1001:2001(1000) ack 1 win 257",
      ],
      "MSG_WAITALL",
      "0",
      /recv returns/,
    ],
    [
      "write, blocking",
      [
        ...SYN_RECEIVED,
        "+.1 < . 1:1(0) ack 1 win 257",
        "+0 setsockopt(3, SOL_SOCKET, SO_SNDBUF, [4096], 4) = 0",
        "+0 accept(3, ..., ...) = 4",
        "+0 setsockopt(4, SOL_SOCKET, SO_SNDBUF, [4096], 4) = 0",
        "+0...0.1 write(4, ..., 6000) = 6000",
        "+.1 < . 1:1(0) ack 4001 win 257",
      ],
      "...0.1 write",
      "...0.2 write",
      /write returns at 0.200000 s, expected 0.300000 s/,
    ],
    [
      "writev",
      [...ESTABLISHED, "+0 writev(4, [{..., 3}, {..., 4}], 2) = 7", "+0 > P. 1:8(7) ack 1"],
      "1:8(7)",
      "1:9(8)",
      /1:8\(7\)/,
    ],
    [
      "send with flags",
      [
        ...ESTABLISHED,
        "+0 send(4, ..., 700, MSG_MORE) = 700",
        "+.05 send(4, ..., 200, 0) = 200",
        "+0 > P. 1:901(900) ack 1",
      ],
      "700, MSG_MORE",
      "700, 0",
      /sent at 0.100000 s, expected at 0.150000 s/,
    ],
    [
      "sendmsg",
      [
        ...ESTABLISHED,
        "+0 sendmsg(4, {msg_name(...)=..., msg_iov(2)=[{..., 30}, {..., 40}], msg_flags=0}, 0) = 70",
        "+0 > P. 1:71(70) ack 1",
      ],
      "{..., 40}",
      "{..., 41}",
      /sendmsg returns 71/,
    ],
    [
      "sendto",
      [...UDP, "+0 sendto(3, ..., 500, 0, ..., ...) = 500", "+0 > udp (500)"],
      "> udp (500)",
      "> udp (501)",
      /udp \(500\)/,
    ],
    [
      "accept4",
      [
        ...SYN_RECEIVED,
        "+.1 < . 1:1(0) ack 1 win 257",
        "+0 accept4(3, ..., ..., SOCK_NONBLOCK) = 4",
        "+0 read(4, ..., 1) = -1 EAGAIN",
      ],
      "SOCK_NONBLOCK",
      "0",
      /read blocks/,
    ],
    [
      "connect, getsockopt SO_ERROR",
      [
        "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
        "+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0",
        "+0 connect(3, ..., ...) = -1 EINPROGRESS",
        "+0 > S 0:0(0) <...>",
        "+.1 < R. 0:0(0) ack 1 win 0",
        "+0 getsockopt(3, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], [4]) = 0",
      ],
      "[ECONNREFUSED]",
      "[ECONNRESET]",
      /ECONNREFUSED|111/,
    ],
    [
      "shutdown",
      [...ESTABLISHED, "+0 shutdown(4, SHUT_WR) = 0", "+0 > F. 1:1(0) ack 1", "+0 write(4, ..., 1) = -1 EPIPE"],
      "SHUT_WR",
      "SHUT_RD",
      /write returns 1|nothing was sent|sent/,
    ],
    [
      "setsockopt, getsockopt",
      [
        ...ESTABLISHED,
        "+0 setsockopt(4, SOL_TCP, TCP_NODELAY, [1], 4) = 0",
        "+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0",
      ],
      "NODELAY, [1], [4]",
      "NODELAY, [0], [4]",
      /TCP_NODELAY is 1/,
    ],
    [
      "fcntl",
      [
        ...ESTABLISHED,
        "+0 fcntl(4, F_GETFL) = 0x2 (flags O_RDWR)",
        "+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0",
        "+0 read(4, ..., 1) = -1 EAGAIN",
      ],
      "O_RDWR|O_NONBLOCK",
      "O_RDWR",
      /read blocks/,
    ],
    ["ioctl", [...HAS_DATA, "+0 ioctl(4, SIOCINQ, [1000]) = 0"], "[1000]", "[999]", /SIOCINQ says 1000/],
    [
      "poll",
      [...HAS_DATA, "+0 poll([{fd=4, events=POLLIN|POLLOUT, revents=POLLIN|POLLOUT}], 1, 0) = 1"],
      "revents=POLLIN|POLLOUT",
      "revents=POLLOUT",
      /revents of 4 is 0x5/,
    ],
    [
      "poll waits",
      [
        ...ESTABLISHED,
        "+0...0.1 poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, 500) = 1",
        "+.1 < P. 1:2(1) ack 1 win 257",
      ],
      "500) = 1",
      "50) = 1",
      /poll returns|revents/,
    ],
    [
      "epoll, level",
      [
        ...HAS_DATA,
        "+0 epoll_create(1) = 5",
        "+0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN, fd=4}) = 0",
        "+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1",
        "+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1",
        "+0 epoll_ctl(5, EPOLL_CTL_DEL, 4, ...) = 0",
        "+0 epoll_wait(5, {events=0, ptr=0}, 1, 0) = 0",
      ],
      "events=EPOLLIN, fd=4}, 1, 0",
      "events=EPOLLOUT, fd=4}, 1, 0",
      /events of 4 are 0x1/,
    ],
    [
      "epoll, edges",
      [
        ...HAS_DATA,
        "+0 epoll_create(1) = 5",
        "+0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN|EPOLLET, fd=4}) = 0",
        "+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1",
        "+0 epoll_wait(5, {events=0, ptr=0}, 1, 0) = 0",
        "+0 < P. 1001:1002(1) ack 1 win 257",
        "+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1",
      ],
      "EPOLLIN|EPOLLET",
      "EPOLLIN",
      /events of 4 are 0x1, expected 0x0/,
    ],
    [
      "epoll, once",
      [
        ...HAS_DATA,
        "+0 epoll_create(1) = 5",
        "+0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN|EPOLLONESHOT, u32=77}) = 0",
        "+0 epoll_wait(5, {events=EPOLLIN, u32=77}, 1, 0) = 1",
        "+0 epoll_wait(5, {events=0, ptr=0}, 1, 0) = 0",
        "+0 epoll_ctl(5, EPOLL_CTL_MOD, 4, {events=EPOLLIN|EPOLLONESHOT, u32=78}) = 0",
        "+0 epoll_wait(5, {events=EPOLLIN, u32=78}, 1, 0) = 1",
      ],
      "EPOLLIN, u32=78",
      "EPOLLIN, u32=77",
      /the event's data is 78/,
    ],
    [
      "an error's name",
      ["0 read(9, ..., 1) = -1 EBADF (Bad file descriptor)"],
      "EBADF",
      "EINVAL",
      /expected -1 EINVAL/,
    ],
  ];
  test.each(rows)("%s", (...row) => holdsAndFails(row));
});

describe("packets", () => {
  const rows: readonly Row[] = [
    [
      "end of the option list",
      [
        ...LISTENING,
        "+0 < S 0:0(0) win 1000 <mss 1000,nop,wscale 7,eol,eol,eol,eol>",
        "+0 > S. 0:0(0) ack 1 <mss 1460,nop,wscale 8>",
      ],
      "<mss 1000,nop,wscale 7,eol",
      "<mss 1000,nop,eol,wscale 7",
      /TCP option/,
    ],
    [
      "timestamps",
      [
        ...LISTENING,
        "+0 < S 0:0(0) win 1000 <mss 1000,sackOK,TS val 700 ecr 0>",
        "+0 > S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 100 ecr 700>",
      ],
      "ecr 700",
      "ecr 701",
      /ecr 700/,
    ],
    [
      "SACK blocks",
      [...ESTABLISHED, "+0 < P. 1001:2001(1000) ack 1 win 257", "+0 > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>"],
      "sack 1001:2001",
      "sack 1001:2000",
      /sack 1001:2001/,
    ],
    [
      "a request for fast open",
      [
        "`sysctl -q net.ipv4.tcp_fastopen=3`",
        ...LISTENING,
        "+0 setsockopt(3, SOL_TCP, TCP_FASTOPEN, [5], 4) = 0",
        "+0 < S 0:0(0) win 1000 <mss 1000,FO,nop,nop>",
        "+0 > S. 0:0(0) ack 1 <mss 1460,FO TFO_COOKIE,nop,nop>",
      ],
      ",FO TFO_COOKIE,nop,nop",
      "",
      /TCP option/,
    ],
    [
      "ECN bits of both headers",
      [
        "`sysctl -q net.ipv4.tcp_ecn=1`",
        ...LISTENING,
        "+0 < SEW 0:0(0) win 32792 <mss 1000>",
        "+0 > [noecn] SE. 0:0(0) ack 1 <mss 1460>",
        "+.1 < [ect0] W. 1:1(0) ack 1 win 32792",
        "+0 accept(3, ..., ...) = 4",
        "+0 < [ce] P. 1:1001(1000) ack 1 win 32792",
        "+0 > [noecn] E. 1:1(0) ack 1001",
      ],
      "[ce] P.",
      "[ect0] P.",
      /E flag is missing|nothing/,
    ],
    [
      "traffic class and flow label",
      [
        "--ip_version=ipv6",
        ...ESTABLISHED.map((line) => line.replace("1460", "1440")),
        "+0 setsockopt(4, SOL_IPV6, IPV6_TCLASS, [0x20], 4) = 0",
        "+0 write(4, ..., 1) = 1",
        "+0 > [tos 0x20] P. 1:2(1) ack 1",
      ],
      "> [tos 0x20]",
      "> [tos 0x20, flowlabel 0x0]",
      /flow label is (0x)?[0-9a-f]+, expected 0/,
    ],
    [
      "ICMP, received",
      [
        "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
        "+0...0.1 connect(3, ..., ...) = -1 ECONNREFUSED (Connection refused)",
        "+0 > S 0:0(0) <...>",
        "+.1 < icmp unreachable port_unreachable [0:0(0)]",
      ],
      "unreachable port_unreachable",
      "unreachable host_unreachable",
      /connect returns -1 EHOSTUNREACH/,
    ],
    [
      "ICMP, expected",
      ["0 < udp 1000 > 9999 (7)", "+0 > icmp unreachable port_unreachable [udp(7)]"],
      "icmp unreachable port_unreachable",
      "icmp unreachable host_unreachable",
      /port_unreachable/,
    ],
    [
      "ICMP echo",
      ["0 < icmp echo_request id 7 [raw(64)]", "+0 > icmp echo_reply id 7 [raw(64)]"],
      "echo_reply id 7",
      "echo_reply id 8",
      /id 7/,
    ],
    ["UDP", [...UDP, "+0 < udp (100)", "+0 read(3, ..., 200) = 100"], "< udp (100)", "< udp (101)", /read returns 101/],
    [
      "sequence numbers of a wire, with !",
      [...LISTENING, "+0 < . 7:7(0) ack 0 win 100", "+0 > R 0:0(0)!"],
      "R 0:0(0)!",
      "R 1:1(0)!",
      /sequence number/,
    ],
    [
      "an urgent pointer",
      [...ESTABLISHED, "+0 send(4, ..., 5, MSG_OOB) = 5", "+0 > PU. 1:6(5) ack 1 urg 5"],
      "urg 5",
      "urg 4",
      /urg/,
    ],
    [
      "any options",
      [...LISTENING, "+0 < S 0:0(0) win 1000 <mss 1000>", "+0 > S. 0:0(0) ack 1 <...>"],
      "<...>",
      "",
      /TCP option 1 is mss 1460, expected none/,
    ],
  ];
  test.each(rows)("%s", (...row) => holdsAndFails(row));
});

describe("times", () => {
  const rows: readonly Row[] = [
    [
      "absolute",
      [...ESTABLISHED, "0.2 write(4, ..., 1) = 1", "0.2 > P. 1:2(1) ack 1"],
      "0.2 > P",
      "0.3 > P",
      /expected at 0.300000/,
    ],
    [
      "relative",
      [...ESTABLISHED, "+.1 write(4, ..., 1) = 1", "+0 > P. 1:2(1) ack 1"],
      "+0 > P",
      "+.1 > P",
      /expected at 0.300000/,
    ],
    [
      "a range, absolute",
      [...ESTABLISHED, "+.1 write(4, ..., 1) = 1", "0.1~0.3 > P. 1:2(1) ack 1"],
      "0.1~0.3",
      "0.3~0.4",
      /0.300000 s to 0.400000 s/,
    ],
    [
      "a range, relative",
      [...ESTABLISHED, "+0 < P. 1:2(1) ack 1 win 257", "+.0~+.05 > . 1:1(0) ack 2"],
      "+.0~+.05",
      "+.1~+.2",
      /expected at/,
    ],
    [
      "whenever",
      [...ESTABLISHED, "+0 < P. 1:2(1) ack 1 win 257", "* > . 1:1(0) ack 2"],
      "ack 2",
      "ack 3",
      /acknowledgment/,
    ],
    [
      "tolerance in microseconds",
      ["--tolerance_usecs=60000", ...ESTABLISHED, "+.1 write(4, ..., 1) = 1", "+.05 > P. 1:2(1) ack 1"],
      "60000",
      "10000",
      /expected at/,
    ],
    [
      "tolerance in percent of the time since the event before",
      [
        "--tolerance_usecs=0",
        "--tolerance_percent=60",
        ...ESTABLISHED,
        "+.1 write(4, ..., 1) = 1",
        "+0 > P. 1:2(1) ack 1",
        "+.35 > P. 1:2(1) ack 1",
      ],
      "percent=60",
      "percent=10",
      /expected at/,
    ],
  ];
  test.each(rows)("%s", (...row) => holdsAndFails(row));
});

describe("the script's head and its commands", () => {
  const OFFER = "+0 > S. 0:0(0) ack 1 <mss 1460,nop,wscale 8>";
  const SYN = "+0 < S 0:0(0) win 1000 <mss 1000,nop,wscale 7>";
  const rows: readonly Row[] = [
    ["--mtu", ["--mtu=1000", ...LISTENING, SYN, OFFER.replace("1460", "960")], "mtu=1000", "mtu=1004", /mss 964/],
    [
      "--ip_version",
      ["--ip_version=ipv6", ...LISTENING, SYN, OFFER.replace("1460", "1440")],
      "ipv6",
      "ipv4",
      /mss 1460/,
    ],
    [
      "--strict_segments",
      [...ESTABLISHED, "+0 write(4, ..., 2000) = 2000", "+0 > P. 1:2001(2000) ack 1"],
      "0 socket",
      "--strict_segments\n0 socket",
      /1:1001\(1000\)/,
    ],
    [
      "--local_ip and --bind_port",
      [
        "--local_ip=10.1.0.5",
        "--netmask_ip=255.0.0.0",
        "--gateway_ip=10.9.9.9",
        "--bind_port=99",
        ...LISTENING,
        "+0 < 1000 > 99 S 0:0(0) win 1000 <mss 1000>",
        "+0 > 99 > 1000 S. 0:0(0) ack 1 <mss 1460>",
      ],
      "> 99 S 0",
      "> 98 S 0",
      /the kernel has not sent the packet/,
    ],
    [
      "--define",
      ["--define=BYTES=100", ...ESTABLISHED, "+0 write(4, ..., BYTES) = 100"],
      "BYTES=100",
      "BYTES=99",
      /write returns 99/,
    ],
    [
      "#ifdef",
      [
        "#ifdef STANDARD",
        "--mtu=1000",
        "#else",
        "--mtu=1004",
        "#endif",
        ...LISTENING,
        SYN,
        OFFER.replace("1460", "960"),
      ],
      "STANDARD",
      "OTHERWISE",
      /mss 964/,
    ],
    [
      "sysctl of Linux",
      [
        "`sysctl -q net.ipv4.tcp_sack=0`",
        ...LISTENING,
        "+0 < S 0:0(0) win 1000 <mss 1000,sackOK>",
        "+0 > S. 0:0(0) ack 1 <mss 1460>",
      ],
      "tcp_sack=0",
      "tcp_sack=1",
      /TCP option/,
    ],
    [
      "sysctl of FreeBSD",
      [
        "`sysctl -w net.inet.tcp.sack.enable=0`",
        ...LISTENING,
        "+0 < S 0:0(0) win 1000 <mss 1000,sackOK>",
        "+0 > S. 0:0(0) ack 1 <mss 1460>",
      ],
      "enable=0",
      "enable=1",
      /TCP option/,
    ],
    [
      "assertions",
      [
        ...ESTABLISHED,
        "+0 %{",
        "assert tcpi_state == TCP_ESTABLISHED, tcpi_state",
        "assert tcpi_snd_mss == 1000",
        "}%",
      ],
      "== 1000",
      "== 1001",
      /tcpi_snd_mss is 1000/,
    ],
    [
      "sockstat",
      [...ESTABLISHED, "+0 `sockstat -4 | grep -c ESTABLISHED | grep 1`", "+0 close(4) = 0"],
      "grep 1",
      "grep 2",
      /1 connections are in ESTABLISHED/,
    ],
  ];
  test.each(rows)("%s", (...row) => holdsAndFails(row));

  test("--non_fatal goes on behind what is wrong, and says so", () => {
    const wrong = [...ESTABLISHED, "+0 write(4, ..., 1) = 1", "+0 > P. 1:2(1) ack 9"].join("\n");
    expect(run(wrong)).toMatchObject({ outcome: "failed" });
    const said: string[] = [];
    const script = { file: "x.pkt", text: `--non_fatal=packet,syscall\n${wrong}`, directory: "." };
    expect(runScript(script, { module, print: (line) => said.push(line) })).toEqual({ outcome: "passed" });
    expect(said.join("\n")).toContain("acknowledgment number is 1, expected 9");
  });

  test("a file of commands beside the script", () => {
    const directory = mkdtempSync(join(tmpdir(), "packetdrill-"));
    try {
      writeFileSync(join(directory, "defaults.sh"), "sysctl -q net.ipv4.tcp_window_scaling=1 net.ipv4.tcp_sack=0\n");
      const text = [
        "`./defaults.sh`",
        ...LISTENING,
        "+0 < S 0:0(0) win 1000 <mss 1000,sackOK>",
        "+0 > S. 0:0(0) ack 1 <mss 1460>",
      ].join("\n");
      expect(run(text, directory)).toEqual({ outcome: "passed" });
      expect(run(text)).toMatchObject({
        outcome: "unsupported",
        what: expect.stringContaining("there is no such file"),
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe("what the kernel lacks is unsupported, never passed", () => {
  test.each([
    ["MD5", [...LISTENING, "+0 < S 0:0(0) win 1000 <mss 1000,md5 0>"], "md5"],
    ["MD5, as an option of the script", ["--tcp_md5_secret=abc", ...LISTENING], "md5"],
    ["TCP over UDP", [...LISTENING, "+0 < S 0:0(0) win 1000 <mss 1000>/udp(9899 > 9899)"], "UDP"],
    ["TCP over UDP, for all packets", ["--udp_encapsulation=tcp", ...LISTENING], "TCP over UDP"],
    ["encapsulation", [...LISTENING, "+0 < ipv4 10.0.0.1 > 10.0.0.2: S 0:0(0) win 1000"], "ipv4"],
    ["a call", [...ESTABLISHED, "+0 sendfile(4, 3, ..., 100) = 100"], "sendfile"],
    ["a socket's option", [...ESTABLISHED, "+0 setsockopt(4, SOL_SOCKET, SO_ZEROCOPY, [1], 4) = 0"], "SO_ZEROCOPY"],
    ["a flag", [...ESTABLISHED, "+0 send(4, ..., 100, MSG_ZEROCOPY) = 100"], "flags"],
    [
      "a control message",
      [
        ...HAS_DATA,
        `+0 recvmsg(4, ${withControl("9", "cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=1")}, 0) = 9`,
      ],
      "control messages",
    ],
    ["a sysctl", ["`sysctl -q net.ipv4.tcp_no_such=1`", ...LISTENING], "tcp_no_such"],
    ["a program", ["`iptables -F`", ...LISTENING], "iptables"],
    ["other code", ["--code_format=lua", ...LISTENING], "lua"],
    ["two machines", ["--wire_client", ...LISTENING], "two machines"],
  ] as const)("%s", (_name, lines, what) => {
    const result = run([...lines, "+0 close(3) = 0"].join("\n"));
    expect(result.outcome).toBe("unsupported");
    expect("what" in result && result.what).toContain(what);
  });
});
