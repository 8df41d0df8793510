/**
 * Sizes, field offsets and numbers of the headers that we read and write: each stands here and nowhere else. Offsets
 * count from the header's first byte. Numbers are as on paper, but for those marked "in memory": as a load sees them.
 */

export const ETHERNET_BYTES: u32 = 14;
export const ETHERNET_SOURCE: usize = 6;
export const ETHERNET_TYPE: usize = 12;
/** In memory. */
export const ETHERTYPE_IPV4: u32 = 0x0008;
export const ETHERTYPE_ARP: u32 = 0x0608;
export const ETHERTYPE_IPV6: u32 = 0xdd86;

/** Protocols of IPv4, next headers of IPv6. */
export const PROTOCOL_ICMP: u32 = 1;
export const PROTOCOL_IGMP: u32 = 2;
export const PROTOCOL_TCP: u32 = 6;
export const PROTOCOL_UDP: u32 = 17;
export const PROTOCOL_ICMPV6: u32 = 58;

/** IPv4 (RFC 791 3.1), without options. */
export const IPV4_HEADER_BYTES: u32 = 20;
export const IPV4_PACKET_BYTES_MAX: u32 = 65535;
export const IP_TOS: usize = 1;
export const IP_TOTAL_LENGTH: usize = 2;
export const IP_IDENTIFICATION: usize = 4;
export const IP_FRAGMENT: usize = 6;
export const IP_TTL: usize = 8;
export const IP_PROTOCOL: usize = 9;
export const IP_CHECKSUM: usize = 10;
export const IP_SOURCE: usize = 12;
export const IP_DESTINATION: usize = 16;
/** Of the fragment field. */
export const FRAGMENT_MORE: u32 = 0x2000;
export const FRAGMENT_OFFSET_MASK: u32 = 0x1fff;
/** In memory: of the fragment field of a packet that is one fragment of several, at least one of these bits is set. */
export const FRAGMENT_BITS: u32 = 0xff3f;

/** IPv6 (RFC 8200 3, 4). */
export const IPV6_HEADER_BYTES: u32 = 40;
/** RFC 8200 5: every link carries this. */
export const IPV6_MTU_MIN: u32 = 1280;
export const V6_PAYLOAD_LENGTH: usize = 4;
export const V6_NEXT_HEADER: usize = 6;
export const V6_HOP_LIMIT: usize = 7;
export const V6_SOURCE: usize = 8;
export const V6_DESTINATION: usize = 24;
export const HEADER_HOP_BY_HOP: u32 = 0;
export const HEADER_ROUTING: u32 = 43;
export const HEADER_FRAGMENT: u32 = 44;
export const HEADER_DESTINATION: u32 = 60;
export const FRAGMENT_HEADER_BYTES: u32 = 8;
/** In memory: the third word of an IPv4 address that stands in 16 bytes, ::ffff:a.b.c.d; those before it are zero. */
export const V4_MAPPED: u32 = 0xffff0000;

/** ECN codepoints of both (RFC 3168 5). */
export const ECT_0: u32 = 2;
export const ECT_1: u32 = 1;
export const CE: u32 = 3;

/** ICMP and ICMPv6. */
export const ICMP_HEADER_BYTES: u32 = 8;
export const ICMP_CHECKSUM: usize = 2;

export const UDP_HEADER_BYTES: u32 = 8;

/** TCP (RFC 9293 3.1), without options. */
export const TCP_HEADER_BYTES: u32 = 20;
export const TCP_OPTION_BYTES_MAX: u32 = 40;
/** In memory: NOP NOP TIMESTAMPS(10), how every stack sends it, and the bytes of all three. */
export const TIMESTAMPS_ALONE: u32 = 0x0a080101;
export const TIMESTAMP_BYTES: u32 = 12;
