/** What assertions can ask about a connection: TCP_INFO by the names of Linux's struct tcp_info. */
import * as INFO from "../layout/tcpInfo.ts";
import { readTcpInfo } from "../views/tcpInfo.ts";
import type { Machine } from "./machine.ts";
import type { Descriptor } from "./sockets.ts";

const TCP_LISTEN = 10;

/** Of every script, whatever its sockets do. FreeBSD's dialect has the names that begin with TCPI_. */
export const INFO_CONSTANTS: ReadonlyMap<string, number> = new Map([
  ...Object.entries({
    ESTABLISHED: INFO.TCP_STATE_ESTABLISHED,
    SYN_SENT: INFO.TCP_STATE_SYN_SENT,
    SYN_RECV: INFO.TCP_STATE_SYN_RECV,
    SYN_RECEIVED: INFO.TCP_STATE_SYN_RECV,
    FIN_WAIT1: INFO.TCP_STATE_FIN_WAIT1,
    FIN_WAIT_1: INFO.TCP_STATE_FIN_WAIT1,
    FIN_WAIT2: INFO.TCP_STATE_FIN_WAIT2,
    FIN_WAIT_2: INFO.TCP_STATE_FIN_WAIT2,
    TIME_WAIT: INFO.TCP_STATE_TIME_WAIT,
    CLOSE: INFO.TCP_STATE_CLOSE,
    CLOSED: INFO.TCP_STATE_CLOSE,
    CLOSE_WAIT: INFO.TCP_STATE_CLOSE_WAIT,
    LAST_ACK: INFO.TCP_STATE_LAST_ACK,
    LISTEN: TCP_LISTEN,
    CLOSING: INFO.TCP_STATE_CLOSING,
  }).flatMap(([name, value]): [string, number][] => [
    [`TCP_${name}`, value],
    [`TCPI_${name}`, value],
  ]),
  ["TCP_CA_Open", INFO.TCPI_CA_OPEN],
  ["TCP_CA_Disorder", INFO.TCPI_CA_DISORDER],
  ["TCP_CA_CWR", INFO.TCPI_CA_CWR],
  ["TCP_CA_Recovery", INFO.TCPI_CA_RECOVERY],
  ["TCP_CA_Loss", INFO.TCPI_CA_LOSS],
  ["TCPI_OPT_TIMESTAMPS", INFO.TCPI_OPT_TIMESTAMPS],
  ["TCPI_OPT_SACK", INFO.TCPI_OPT_SACK],
  ["TCPI_OPT_WSCALE", INFO.TCPI_OPT_WSCALE],
  ["TCPI_OPT_ECN", INFO.TCPI_OPT_ECN],
  ["TCPI_OPT_ECN_SEEN", INFO.TCPI_OPT_ECN_SEEN],
  ["TCPI_OPT_SYN_DATA", INFO.TCPI_OPT_SYN_DATA],
]);

/** Variables of the socket; none without one. */
export function infoVariables(machine: Machine, socket: Descriptor | undefined): Map<string, number> {
  const variables = new Map<string, number>();
  if (socket?.kind !== "tcp") return variables;
  if (socket.listener !== undefined) return variables.set("tcpi_state", TCP_LISTEN);
  const status = socket.handle === undefined ? -1 : machine.exports.tcpInfo(socket.handle, machine.area);
  if (status < 0) return variables.set("tcpi_state", INFO.TCP_STATE_CLOSE);
  for (const [name, value] of Object.entries(readTcpInfo(machine.memory, machine.area))) variables.set(name, value);
  return variables;
}
