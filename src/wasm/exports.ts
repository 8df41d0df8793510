/**
 * What a kernel module exports: numbers in, numbers out, nothing else. Addresses are byte offsets in the kernel's
 * memory. Calls that can refuse return a negative status (layout/status.ts). None of them blocks, allocates in JS, or
 * throws.
 */
export type KernelExports = {
  /** Reads the configuration at CONFIG_BASE, carves the arena, publishes MAP_*. 0 or a status. */
  boot(): number;
  /**
   * Reads again, at CONFIG_BASE, what is no size: times, limits of retransmission, modes, congestion control. For
   * packetdrill's scripts, which set sysctls while the kernel runs. Values are not checked again: the caller sees to it
   * that they are within the limits of src/kernel/config.ts.
   */
  tuningReload(): void;
  /** Forgets the cookies of fast open that servers have given, and who is not to be asked (RFC 7413 4.1.3). */
  fastOpenForget(): void;
  /**
   * One turn of the kernel: up to `budgetFrames` received frames, due timers, output, events.
   * @param nowNs virtual or real time in whole nanoseconds; must not run backwards.
   * @returns number of event records at MAP_EVENTS (valid until the next poll).
   */
  poll(nowNs: number, budgetFrames: number): number;
  /** Sends what input, timers and commands have made sendable. @returns connections served. */
  flush(): number;
  // For who takes the frames before anything else happens, on the kernel's own thread.
  /** poll, then flush. @returns as poll. */
  turn(nowNs: number, budgetFrames: number): number;
  /** tcpSend or tcpClose, then flush. @returns as those. */
  tcpSendNow(handle: number, source: number, bytes: number): number;
  tcpCloseNow(handle: number): number;
  /** The TX ring starts over at its first byte, if it is empty. */
  txRewind(): void;
  /** When `poll` has something to do without a new frame or command, in ns; Infinity: never. */
  nextDeadlineNs(): number;
  /** 1 when received frames, unpublished events or unsent output wait for the next poll. */
  hasWork(): number;
  /** Permanent memory for the application (messages, receive areas), 64-byte aligned; 0 when the arena is used up. */
  allocAppBytes(bytes: number): number;

  /**
   * Adds the 16-byte address at `address` (IPv4 as ::ffff:a.b.c.d).
   * @returns its index, EINVAL, ENOBUFS or EADDRINUSE.
   */
  addressAdd(address: number, prefixLength: number): number;
  /** Index of the own address to speak to the 16-byte address at `remote` from (RFC 6724); -1: no route. */
  addressFor(remote: number): number;
  /**
   * Takes an own address out of use; connections that have it fail with ECONNABORTED.
   * @returns its index, EADDRNOTAVAIL.
   */
  addressRemove(address: number): number;
  /** Whether an address is to be used by new connections only when there is no other (RFC 4862 5.5.4). */
  addressDeprecate(address: number, deprecated: number): number;
  /**
   * Sets the route to a prefix. All addresses are 16 bytes.
   * @param gateway where its address lies; all zero: the prefix is on the link. @returns 0, EINVAL, ENOBUFS.
   */
  routeSet(prefix: number, prefixLength: number, gateway: number): number;
  /** @returns 0, or EINVAL: there is no such route. */
  routeRemove(prefix: number, prefixLength: number): number;

  /**
   * One more default gateway, 16 bytes, to be used when those before it do not answer.
   * @returns 0, EADDRINUSE: it is one, ENOBUFS.
   */
  gatewayAdd(address: number): number;
  /** @returns 0, EINVAL: it is none. */
  gatewayRemove(address: number): number;

  /**
   * What routers advertise about the link to IPv6 hosts (RFC 4861 6.3.4); 0: nothing. Open connections keep to a
   * smaller MTU from now on.
   * @param mtuBytes below 1280, or not below the device's: as the device's. @param reachableMs how long a neighbour's
   *   confirmation is good, @param retransMs between solicitations; at most an hour. @returns 0.
   */
  linkSet(mtuBytes: number, hopLimit: number, reachableMs: number, retransMs: number): number;

  /** From now on router advertisements and the like wait for the host. @returns 0 or ENOMEM. */
  controlOpen(): number;
  /** Oldest of them: address of the IPv6 packet, 0 when there is none. RESULT_BASE: +0 u32 length. */
  controlPeek(): number;
  controlConsume(): void;
  /**
   * Sends a whole packet, whose source need not be an own address (duplicate address detection); of IPv4 only to
   * groups.
   * @returns 0, EMSGSIZE, ENETUNREACH, EHOSTUNREACH, ENOBUFS.
   */
  packetSend(packet: number, bytes: number): number;
  /**
   * From now on what comes about echo requests waits for the host, 32 records at most; 0: no longer.
   * @returns 0, ENOMEM.
   */
  echoWait(on: number): number;
  /**
   * Sends an echo request to the 16-byte address at `remote`. After echoWait(1).
   * @param bytes of payload, 0..8192. @param hopLimit 0: as configured.
   * @returns 0, EMSGSIZE, ENETUNREACH, EHOSTUNREACH, ENOBUFS.
   */
  echoSend(remote: number, identifier: number, sequence: number, bytes: number, hopLimit: number): number;
  /** Oldest record (assembly/ip/echo.ts), 0: none. */
  echoPeek(): number;
  echoConsume(): void;
  /**
   * Probes for an IPv4 address (RFC 5227 2.1.1), 16 bytes, and watches for it until the next call; 0: no longer.
   * @returns 1 when the probe is on its way.
   */
  arpProbe(address: number): number;
  /** 1 when somebody has the address that was probed for last. */
  arpProbeAnswered(): number;

  /**
   * @param addressIndex of the local address, -1: any of both families, -2: any of IPv4, -3: any of IPv6.
   * @param port 1..65535.
   * @returns listener handle, EADDRINUSE, ENOBUFS, EINVAL.
   */
  tcpListen(addressIndex: number, port: number, backlog: number): number;
  /** Stops listening; resets connections not yet accepted. */
  tcpListenClose(listener: number): number;
  /** Oldest completed connection of this listener. @returns handle, EAGAIN, EBADF. */
  tcpAccept(listener: number): number;
  /**
   * Starts an active open.
   * @param addressIndex local address, -1: by route. @param localPort 0: the kernel picks an ephemeral one.
   * @param remoteAddress where the 16-byte remote address lies. @returns handle, EADDRINUSE, EADDRNOTAVAIL,
   *   ENETUNREACH, ENOBUFS.
   */
  tcpConnect(addressIndex: number, localPort: number, remoteAddress: number, remotePort: number): number;
  /**
   * Copies `bytes` from `source` into the send buffer.
   * @returns bytes taken (0: full, EVENT_WRITABLE follows), EPIPE, ENOTCONN, EBADF.
   */
  tcpSend(handle: number, source: number, bytes: number): number;
  /**
   * Contiguous room in the send buffer for up to `bytes`.
   * @returns address, 0 when there is none (EVENT_WRITABLE follows), or a status; RESULT_BASE+0: u32 length of the
   *   room.
   */
  tcpSendReserve(handle: number, bytes: number): number;
  /** Queues the first `bytes` of the room. */
  tcpSendCommit(handle: number, bytes: number): number;
  /**
   * Copies up to `bytes` received bytes to `target`.
   * @returns bytes copied, 0: none now (or end, see EVENT_PEER_CLOSED), a status.
   */
  tcpRecv(handle: number, target: number, bytes: number): number;
  /** Address of the readable bytes; 0 when there are none, or a status. RESULT_BASE+0: u32 contiguous length. */
  tcpRecvPeek(handle: number): number;
  /** Gives back the first `bytes` readable bytes: the window opens. */
  tcpRecvConsume(handle: number, bytes: number): number;
  /** Sends FIN after what is queued; receiving goes on. */
  tcpShutdownSend(handle: number): number;
  /**
   * The application lets go: FIN after what is queued, or RST when received bytes were left unread (RFC 2525 2.17).
   * EVENT_CLOSED ends it.
   */
  tcpClose(handle: number): number;
  /** RST now; the handle is gone. Also after tcpClose, until its EVENT_CLOSED. */
  tcpAbort(handle: number): number;
  /**
   * Resets every connection, the application's and those not yet accepted; EVENT_CLOSED with ECONNABORTED follows.
   * @returns how many.
   */
  tcpAbortAll(): number;
  /** @param option OPTION_*, layout/option.ts. @returns 0, or what the option's line there says. */
  tcpSetOption(handle: number, option: number, value: number): number;
  /** The same for connections that the listener will accept. */
  tcpListenSetOption(listener: number, option: number, value: number): number;
  /** Writes INFO_* at `target`. */
  tcpGetInfo(handle: number, target: number): number;
  /** Writes TCPI_* (layout/tcpInfo.ts) at `target`. @returns 0 or EBADF. */
  tcpInfo(handle: number, target: number): number;

  /**
   * Live migration of a flow group (docs/migration.md). Called between polls, for one group at a time but for the
   * states of groups and for frames.
   */
  /** @param state GROUP_* of layout/migration.ts. @returns 0 or EINVAL. */
  migrationSetGroup(group: number, state: number): number;
  /**
   * Freezes the group's connections, those in TIME-WAIT too. Looks at up to `budget` TCBs.
   * @param first 1 in the first call for a group. @returns how many TCBs are left to be looked at, or EINVAL.
   */
  migrationFreeze(group: number, first: number, budget: number): number;
  /**
   * Writes the frozen connections as a stream of records. @param first 1: from the start.
   * @returns bytes written at `target`, fewer than `bytesMax`: that is the end.
   */
  migrationExport(first: number, target: number, bytesMax: number): number;
  /**
   * Reads the next piece of such a stream; what is in it comes to be frozen here. @returns 0, or why these connections
   * cannot come here, for this piece and all that follow: ENOBUFS, EADDRINUSE, EPROTO. Then: migrationDiscard.
   */
  migrationImport(source: number, bytes: number): number;
  /** After the last piece. @returns 0, or as migrationImport; EPROTO when a record is not complete. */
  migrationImportEnd(): number;
  /** Frozen connections from the `skip`-th on, MIGRATION_LIST_*. @returns entries written. */
  migrationList(skip: number, target: number, entriesMax: number): number;
  /**
   * The frozen connections live here from now on. @param arrived 1: they have come, 0: they stay after all.
   * @returns how many there are.
   */
  migrationThaw(arrived: number): number;
  /** Forgets the frozen connections. @param left 1: they live elsewhere now, 0: they never came. */
  migrationDiscard(left: number): number;
  /**
   * Oldest frame for a group that has left: its record (layout/frameRing.ts), FRAME_QUEUE is the kernel that has the
   * group; 0: none. RESULT_BASE: +0 u32 bytes of the record, +4 u32 group.
   */
  migrationLatePeek(): number;
  migrationLateDrop(): void;
  /** Processes a frame whose record lies at `record`. */
  migrationReplay(record: number): void;
  /** Processes, or forgets, the frames that have waited for a group. @returns how many. */
  migrationReplayHeld(group: number): number;
  migrationDropHeld(group: number): number;
  /** Processes the late frames of a group, or of flows (FLOW_GROUPS), that stay after all. @returns how many. */
  migrationReplayLate(group: number): number;

  /**
   * Stealing (docs/migration.md). Freezes the oldest connections that wait to be accepted, at most so many; the rest is
   * as for a group: migrationList, Export, Import, Thaw, Discard. Segments of theirs go to kernel `to` from now on.
   * @param addresses only connections of the first so many of our addresses. @param withV6 0: not those of IPv6.
   * @param move names the steal. @returns how many, or EINVAL.
   */
  stealFreeze(connectionsMax: number, addresses: number, withV6: number, to: number, move: number): number;
  /**
   * Segments of this flow are laid aside, as held frames of group FLOW_GROUPS. @param remote where its 16 bytes lie.
   * @param ports both, as in a received segment. @returns 0, ENOBUFS, EBUSY: its group has just left,
   * ECONNREFUSED: nobody listens there.
   */
  stealExpect(remote: number, localIndex: number, ports: number, move: number): number;
  /**
   * Segments of this flow that find no connection go another way than their group's, until
   * stealDetour(move, GROUP_STEADY).
   * @param state GROUP_LEFT and up, GROUP_HERE. The others: see stealExpect. @returns 0, ENOBUFS, EINVAL.
   */
  flowDetour(remote: number, localIndex: number, ports: number, state: number, move: number): number;
  /** Gives the flows of a steal another state: GROUP_*; GROUP_STEADY: they are as all others again. */
  stealDetour(move: number, state: number): void;

  /** Changes whenever the groups that sockets of this kernel are in do. */
  multicastRevision(): number;
  /** Writes those groups at `target`, 16 bytes each, 64 at most. @returns how many. */
  multicastList(target: number): number;

  /** @returns UDP socket handle, EADDRINUSE, ENOBUFS. */
  udpBind(addressIndex: number, port: number): number;
  /** @returns bytes, EMSGSIZE, ENETUNREACH, ENOBUFS. */
  udpSendTo(handle: number, source: number, bytes: number, remoteAddress: number, remotePort: number): number;
  /**
   * Oldest datagram: address of its payload, 0 when there is none.
   * RESULT_BASE: +0 u32 length, +4 u32 remote port, +8 16 bytes remote address, +24 16 bytes the address that it was
   * sent to, +40 u32 TOS or traffic class, +44 u32 TTL or hop limit.
   */
  udpRecvPeek(handle: number): number;
  /** Drops the oldest datagram. */
  udpRecvConsume(handle: number): number;
  /**
   * Datagrams to the group at `group`, 16 bytes, come to this socket, until it is closed.
   * @returns 0, EINVAL: it is no group, EADDRINUSE: the socket is in it, ENOBUFS, EBADF.
   */
  udpJoin(handle: number, group: number): number;
  /** @returns 0, EADDRNOTAVAIL: the socket is not in it, EBADF. */
  udpLeave(handle: number, group: number): number;
  /**
   * @param option OPTION_TOS, OPTION_HOP_LIMIT, OPTION_MULTICAST_HOP_LIMIT, OPTION_MULTICAST_LOOP, or
   *   OPTION_RCV_BUFFER_BYTES: 2 KiB to 16 MiB of waiting datagrams, counted by what they take of the pool;
   *   half of that at most, but for 256 KiB, whatever is asked for.
   * @returns 0, EINVAL, EBADF.
   */
  udpSetOption(handle: number, option: number, value: number): number;
  udpClose(handle: number): number;
  /** @returns the port that the socket is bound to, or EBADF. */
  udpLocalPort(handle: number): number;
};
