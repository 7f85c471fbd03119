//! What a board is given at the factory, in a page of its own.
//!
//! ```text
//! magic 4 | P-256 key 32 | vendor and class id 32 | release key 33 | gateway's IPv4 4 | port 2 |
//! installed version 8 | block 2 | window of a wake, ms 4 | seconds between wakes 4     integers big-endian
//! ```
//!
//! A board with a secure element keeps its key there; this one has none.

use posthouse_device::boot::Nor as _;
use posthouse_device::{Key as _, P256Key};
use posthouse_protocol::device::Config;
use posthouse_protocol::id::{ProductId, ReleaseKey, Version};

use crate::layout::{LAYOUT, PROVISION};
use crate::nor::Chip;

const LEN: usize = 4 + 32 + 32 + 33 + 4 + 2 + 8 + 2 + 4 + 4;
const MAGIC: [u8; 4] = *b"PHP1";

/// The page's content.
pub struct Provision {
    /// The private key.
    pub key: P256Key,
    /// Vendor and class id.
    pub product: ProductId,
    /// The vendor's.
    pub release_key: ReleaseKey,
    /// Where the gateway's CoAP endpoint is.
    pub gateway: ([u8; 4], u16),
    /// What the factory installed.
    pub installed: Version,
    /// Bytes of a block.
    pub block: u16,
    /// How long it stays awake with nothing to do, ms.
    pub awake_ms: u32,
    /// Between wakes, s.
    pub wake_s: u32,
}

impl Provision {
    /// Reads the page; nothing if it was never written.
    pub fn read() -> Option<Self> {
        let mut bytes = [0; LEN];
        Chip::open().read(PROVISION, &mut bytes).ok()?;
        let mut page = Page(&bytes);
        if page.take()? != MAGIC {
            return None;
        }
        Some(Self {
            key: P256Key::new(&page.take()?)?,
            product: ProductId::new(page.take()?),
            release_key: ReleaseKey::new(page.take()?),
            gateway: (page.take()?, u16::from_be_bytes(page.take()?)),
            installed: Version::new(u64::from_be_bytes(page.take()?)),
            block: u16::from_be_bytes(page.take()?),
            awake_ms: u32::from_be_bytes(page.take()?),
            wake_s: u32::from_be_bytes(page.take()?),
        })
    }

    /// What no other board and no other boot has, for message ids and tokens: a gateway, which knows answers for minutes by
    /// address and id, must not take the first words after a reboot for those before it.
    pub fn seed(&self, boots: u32) -> u32 {
        let [a, b, c, d, ..] = *self.key.public().device_id().as_bytes();
        // Weyl's sequence by the golden ratio: boots that follow each other get seeds that are far apart.
        u32::from_be_bytes([a, b, c, d]).wrapping_add(boots.wrapping_mul(0x9e37_79b9))
    }

    /// The machine's configuration.
    pub fn config(&self) -> Config {
        Config {
            key: self.key.public(),
            curve: self.key.curve(),
            product: self.product,
            release_key: self.release_key,
            slot: LAYOUT.slot,
            wake_s: self.wake_s,
            block: self.block,
            window: 1,
            checkpoint: 4096,
            block_timeout_ms: 2000,
            block_tries: 4,
        }
    }
}

struct Page<'a>(&'a [u8]);

impl Page<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }
}
