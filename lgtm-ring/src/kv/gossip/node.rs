//! Who a member is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use lgtm_core::DecodeError;
use lgtm_core::codec::Reader;

/// The longest name of a node, in bytes.
pub const MAX_NODE_NAME_BYTES: usize = 128;

/// A member of the gossip cluster: a name for people, the address that others send to, and a generation that tells this life of the
/// process from earlier ones at the same address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Host name and some random digits, unique per start.
    pub name: Arc<str>,
    /// Where others reach it, by UDP and TCP.
    pub addr: SocketAddr,
    /// Milliseconds since the Unix epoch at the start, one more for each time that the cluster took the node for dead.
    pub generation: u64,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.name, self.addr, self.generation)
    }
}

impl foca::Identity for Node {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            generation: self.generation.saturating_add(1),
            ..self.clone()
        })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.generation, &self.name) > (other.generation, &other.name)
    }
}

/// How nodes and membership messages are spelled: `docs/format/gossip.md`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NodeCodec;

impl NodeCodec {
    pub(super) fn put_node(out: &mut Vec<u8>, node: &Node) {
        out.push(node.name.len() as u8);
        out.extend_from_slice(node.name.as_bytes());
        match node.addr.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
        out.extend_from_slice(&node.addr.port().to_be_bytes());
        out.extend_from_slice(&node.generation.to_be_bytes());
    }

    pub(super) fn read_node(r: &mut Reader<'_>) -> Result<Node, DecodeError> {
        let len = usize::from(r.u8()?);
        if len > MAX_NODE_NAME_BYTES {
            return Err(r.error(format!(
                "node name of {len} bytes, at most {MAX_NODE_NAME_BYTES}"
            )));
        }
        let at = r.clone();
        let name = std::str::from_utf8(r.take(len)?)
            .map_err(|e| at.error(format!("node name is not UTF-8: {e}")))?;
        let ip = match r.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(r.u32()?)),
            6 => {
                let (high, low) = (r.u64()?, r.u64()?);
                IpAddr::V6(Ipv6Addr::from(u128::from(high) << 64 | u128::from(low)))
            }
            family => return Err(r.error(format!("address family {family}, not 4 or 6"))),
        };
        Ok(Node {
            name: name.into(),
            addr: SocketAddr::new(ip, r.u16()?),
            generation: r.u64()?,
        })
    }

    pub(super) fn put_member(out: &mut Vec<u8>, member: &Member<Node>) {
        Self::put_node(out, member.id());
        out.extend_from_slice(&member.incarnation().to_be_bytes());
        out.push(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
    }

    pub(super) fn read_member(r: &mut Reader<'_>) -> Result<Member<Node>, DecodeError> {
        let node = Self::read_node(r)?;
        let incarnation = r.u16()?;
        let state = match r.u8()? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            state => return Err(r.error(format!("member state {state}, not 0 to 2"))),
        };
        Ok(Member::new(node, incarnation, state))
    }

    fn put_message(out: &mut Vec<u8>, message: &Message<Node>) {
        let (tag, node, number) = match message {
            Message::Ping(n) => (0, None, Some(n)),
            Message::Ack(n) => (1, None, Some(n)),
            Message::PingReq {
                target,
                probe_number: n,
            } => (2, Some(target), Some(n)),
            Message::IndirectPing {
                origin,
                probe_number: n,
            } => (3, Some(origin), Some(n)),
            Message::IndirectAck {
                target,
                probe_number: n,
            } => (4, Some(target), Some(n)),
            Message::ForwardedAck {
                origin,
                probe_number: n,
            } => (5, Some(origin), Some(n)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Broadcast => (9, None, None),
            Message::TurnUndead => (10, None, None),
        };
        out.push(tag);
        if let Some(node) = node {
            Self::put_node(out, node);
        }
        out.extend(number.copied());
    }

    fn read_message(r: &mut Reader<'_>) -> Result<Message<Node>, DecodeError> {
        Ok(match r.u8()? {
            0 => Message::Ping(r.u8()?),
            1 => Message::Ack(r.u8()?),
            2 => Message::PingReq {
                target: Self::read_node(r)?,
                probe_number: r.u8()?,
            },
            3 => Message::IndirectPing {
                origin: Self::read_node(r)?,
                probe_number: r.u8()?,
            },
            4 => Message::IndirectAck {
                target: Self::read_node(r)?,
                probe_number: r.u8()?,
            },
            5 => Message::ForwardedAck {
                origin: Self::read_node(r)?,
                probe_number: r.u8()?,
            },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            10 => Message::TurnUndead,
            tag => return Err(r.error(format!("membership message {tag}, not 0 to 10"))),
        })
    }

    pub(super) fn read_header(r: &mut Reader<'_>) -> Result<Header<Node>, DecodeError> {
        Ok(Header {
            src: Self::read_node(r)?,
            src_incarnation: r.u16()?,
            dst: Self::read_node(r)?,
            message: Self::read_message(r)?,
        })
    }
}

/// Decodes one thing off the front of a contiguous buffer.
fn read<T>(
    mut buf: impl Buf,
    decode: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut r = Reader::new("membership message", buf.chunk());
    let value = decode(&mut r)?;
    let read = r.position();
    buf.advance(read);
    Ok(value)
}

/// Appends all of `bytes` or nothing.
fn write(mut buf: impl BufMut, bytes: &[u8]) -> Result<(), DecodeError> {
    if buf.remaining_mut() < bytes.len() {
        let reason = format!("{} bytes, room for {}", bytes.len(), buf.remaining_mut());
        return Err(DecodeError::new("membership message", 0, reason));
    }
    buf.put_slice(bytes);
    Ok(())
}

impl foca::Codec<Node> for NodeCodec {
    type Error = DecodeError;

    fn encode_header(
        &mut self,
        header: &Header<Node>,
        buf: impl BufMut,
    ) -> Result<(), DecodeError> {
        let mut out = Vec::with_capacity(128);
        Self::put_node(&mut out, &header.src);
        out.extend_from_slice(&header.src_incarnation.to_be_bytes());
        Self::put_node(&mut out, &header.dst);
        Self::put_message(&mut out, &header.message);
        write(buf, &out)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Node>, DecodeError> {
        read(buf, Self::read_header)
    }

    fn encode_member(
        &mut self,
        member: &Member<Node>,
        buf: impl BufMut,
    ) -> Result<(), DecodeError> {
        let mut out = Vec::with_capacity(64);
        Self::put_member(&mut out, member);
        write(buf, &out)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Node>, DecodeError> {
        read(buf, Self::read_member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Codec;
    use proptest::prelude::*;

    fn node() -> impl Strategy<Value = Node> {
        (".{0,30}", any::<SocketAddr>(), any::<u64>()).prop_map(|(name, addr, generation)| Node {
            name: name.into(),
            // Scope and flow of an IPv6 address mean nothing to others.
            addr: SocketAddr::new(addr.ip(), addr.port()),
            generation,
        })
    }

    fn message() -> impl Strategy<Value = Message<Node>> {
        (0u8..11, node(), any::<u8>()).prop_map(|(tag, node, n)| {
            let mut bytes = vec![tag];
            if (2..=5).contains(&tag) {
                NodeCodec::put_node(&mut bytes, &node);
            }
            bytes.push(n);
            NodeCodec::read_message(&mut Reader::new("test", &bytes)).unwrap()
        })
    }

    proptest! {
        #[test]
        fn headers_and_members_come_back(
            src in node(), dst in node(), src_incarnation: u16, message in message(), state in 0u8..3,
        ) {
            let header = Header { src, src_incarnation, dst, message };
            let mut buf = Vec::new();
            NodeCodec.encode_header(&header, &mut buf).unwrap();
            let len = buf.len();
            let state = [State::Alive, State::Suspect, State::Down][usize::from(state)];
            let member = Member::new(header.dst.clone(), src_incarnation, state);
            NodeCodec.encode_member(&member, &mut buf).unwrap();
            let mut bytes = buf.as_slice();
            prop_assert_eq!(NodeCodec.decode_header(&mut bytes).unwrap(), header);
            prop_assert_eq!(bytes.len(), buf.len() - len);
            prop_assert_eq!(NodeCodec.decode_member(&mut bytes).unwrap(), member);
            prop_assert!(bytes.is_empty());
            for cut in 0..len {
                prop_assert!(NodeCodec.decode_header(&buf[..cut]).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = NodeCodec.decode_header(bytes.as_slice());
            let _ = NodeCodec.decode_member(bytes.as_slice());
        }
    }
}
