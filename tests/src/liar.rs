//! A gateway's CoAP endpoint with somebody in between, who can make the gateway lie to one sensor: what is asked of a
//! sensor's own checks.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, ResponseType};
use posthouse_protocol::sensor::{ErrorCode, ErrorMsg, names};
use sha2::{Digest as _, Sha256};
use tokio::{net::UdpSocket, task::JoinHandle};

/// What the sensor is told instead of the truth.
#[derive(Debug, Clone, Default)]
pub enum Lie {
    /// The truth.
    #[default]
    None,
    /// One bit of one block of the image is another, once.
    FlippedBit,
    /// Another manifest.
    Manifest(Vec<u8>),
    /// Another manifest, with its image.
    Release(Vec<u8>, Vec<u8>),
}

#[derive(Debug, Default)]
struct Shared {
    lie: Lie,
    refused: Vec<ErrorCode>,
}

/// Stands between a sensor and its gateway.
#[derive(Debug)]
pub struct Liar {
    /// Where the sensor finds it.
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Liar {
    /// In front of `gateway`, and honest.
    pub async fn before(gateway: SocketAddr) -> Result<Self> {
        let (below, above) = (
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        );
        above.connect(gateway).await?;
        let address = below.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let task = tokio::spawn(relay(below, above, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// From now on.
    pub fn tell(&self, lie: Lie) -> Result<()> {
        self.lock()?.lie = lie;
        Ok(())
    }

    /// What the sensor has refused so far, in its own words.
    pub fn refused(&self) -> Result<Vec<ErrorCode>> {
        Ok(self.lock()?.refused.clone())
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Shared>> {
        self.shared.lock().ok().context("the liar's task has panicked")
    }
}

async fn relay(below: UdpSocket, above: UdpSocket, shared: Arc<Mutex<Shared>>) {
    let (mut down, mut up) = ([0; 2048], [0; 2048]);
    let mut sensor = None;
    let mut asked: HashMap<Vec<u8>, String> = HashMap::new();
    loop {
        tokio::select! {
            Ok((len, from)) = below.recv_from(&mut up) => {
                sensor = Some(from);
                let own = Packet::from_bytes(&up[..len]).ok().and_then(|request| {
                    let path = path(&request);
                    let own = shared.lock().ok()?.instead(&path, &request);
                    asked.insert(request.get_token().to_vec(), path);
                    own?.to_bytes_unlimited().ok()
                });
                // What cannot be sent is lost, and asked for again.
                let _ = match own {
                    Some(bytes) => below.send_to(&bytes, from).await,
                    None => above.send(&up[..len]).await,
                };
            }
            Ok(len) = above.recv(&mut down) => {
                let Some(sensor) = sensor else { continue };
                let bytes = Packet::from_bytes(&down[..len]).ok().and_then(|mut response| {
                    let path = asked.remove(response.get_token())?;
                    shared.lock().ok()?.bend(&path, &mut response);
                    response.to_bytes_unlimited().ok()
                });
                let _ = below.send_to(bytes.as_deref().unwrap_or(&down[..len]), sensor).await;
            }
            else => return,
        }
    }
}

fn path(request: &Packet) -> String {
    let segments = request.get_option(CoapOption::UriPath).into_iter().flatten();
    let segments: Vec<_> = segments.map(|segment| String::from_utf8_lossy(segment).into_owned()).collect();
    segments.join("/")
}

impl Shared {
    /// The liar's own answer, if it does not pass the request on.
    fn instead(&mut self, path: &str, request: &Packet) -> Option<Packet> {
        let (_, name) = path.split_once('/')?;
        if name == names::REFUSED {
            self.refused.extend(ErrorMsg::decode(&request.payload).map(|error| error.code));
        }
        match (&self.lie, name.split_once('/')) {
            (Lie::Manifest(envelope) | Lie::Release(envelope, _), None) if name == names::MANIFEST => {
                Some(content(request, envelope, None))
            }
            (Lie::Release(_, image), Some((names::IMAGE, u_id)))
                if u_id == hex::encode(Sha256::digest(image)) =>
            {
                let asked = request.get_first_option(CoapOption::Block2)?;
                let value = asked.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
                let (offset, len) = ((value >> 4) << ((value & 7) + 4), 16 << (value & 7));
                let part = image.get(offset..(offset + len).min(image.len()))?;
                Some(content(request, part, Some(asked.clone())))
            }
            _ => None,
        }
    }

    fn bend(&mut self, path: &str, response: &mut Packet) {
        let image = path.starts_with(&format!("{}/{}/", names::ROOT, names::IMAGE));
        let is_content = response.header.code == MessageClass::Response(ResponseType::Content);
        if let (Lie::FlippedBit, true, Some(byte)) =
            (&self.lie, image && is_content, response.payload.last_mut())
        {
            *byte ^= 1;
            self.lie = Lie::None;
        }
    }
}

fn content(request: &Packet, payload: &[u8], block2: Option<Vec<u8>>) -> Packet {
    let mut answer = Packet::new();
    answer.header.set_version(1);
    answer.header.set_type(MessageType::Acknowledgement);
    answer.header.code = MessageClass::Response(ResponseType::Content);
    answer.header.message_id = request.header.message_id;
    answer.set_token(request.get_token().to_vec());
    if let Some(block2) = block2 {
        answer.add_option(CoapOption::Block2, block2);
    }
    answer.payload = payload.to_vec();
    answer
}
