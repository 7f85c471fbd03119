//! A real constrained device as a sensor of a site: the firmware of `device/board` on a Cortex-M3 in QEMU, with the flash
//! in a file. `cargo xtask board` builds it.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use posthouse_protocol::id::{ProductId, ReleaseKey};
use tokio::{process::Command, task::JoinHandle};

/// Where the build of the firmware is.
const FOLDER: &str = "POSTHOUSE_BOARD";
/// Bytes of the board's flash, and where its parts are: `device/board/src/layout.rs`.
const FLASH: usize = 0x4_0000;
const PROVISION: usize = 0x4000;
const SLOT_A: usize = 0x8000;
const SLOT: usize = 0x1_c000;
/// Where the emulator's user network has the loopback of this machine.
const HOST: [u8; 4] = [10, 0, 2, 2];
/// Bytes of a block, time awake in ms, seconds asleep.
const BLOCK: u16 = 512;
const AWAKE_MS: u32 = 1000;
const WAKE_S: u32 = 1;
/// Power cycles after which the board counts as broken.
const MAX_CYCLES: usize = 40;

/// The programs for the board, as they go to its flash.
#[derive(Debug, Clone)]
pub struct Firmware(PathBuf);

impl Firmware {
    /// What the build left; an error that says how to make it.
    pub fn built() -> Result<Self> {
        let folder = std::env::var_os(FOLDER).with_context(|| {
            format!("{FOLDER} is not set: `cargo ci --full --only board` builds the firmware and sets it")
        })?;
        Ok(Self(folder.into()))
    }

    /// The sensor's firmware, of build 1 or 2: the same but for its number.
    pub fn sensor(&self, build: u8) -> Result<Vec<u8>> {
        self.read(&format!("sensor-{build}.bin"))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.0.join(name);
        fs::read(&path).with_context(|| path.display().to_string())
    }
}

/// What a board is given at the factory.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its P-256 scalar.
    pub key: [u8; 32],
    /// Vendor and class id.
    pub product: ProductId,
    /// The vendor's release key.
    pub release_key: ReleaseKey,
    /// Port of the gateway's CoAP endpoint on this machine's loopback.
    pub gateway: SocketAddr,
}

/// A board under power: the emulator is started again whenever it has reset. Dropping it cuts the power.
#[derive(Debug)]
pub struct Board {
    folder: PathBuf,
    power: JoinHandle<Result<()>>,
}

impl Drop for Board {
    fn drop(&mut self) {
        self.power.abort();
    }
}

impl Board {
    /// Fills the flash as the factory does, with build 1, and switches the power on.
    pub fn start(folder: &Path, firmware: &Firmware, identity: &Identity) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut flash = vec![0xff; FLASH];
        let mut put = |at: usize, bytes: &[u8]| flash[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &firmware.read("boot.bin")?);
        put(PROVISION, &identity.page());
        let sensor = firmware.sensor(1)?;
        ensure!(sensor.len() <= SLOT, "a firmware of {} bytes for a slot of {SLOT}", sensor.len());
        put(SLOT_A, &sensor);
        fs::write(folder.join("flash"), flash)?;
        let power = tokio::spawn(power(folder.to_path_buf()));
        Ok(Self { folder: folder.to_path_buf(), power })
    }

    /// Everything that it has said on its serial line, over all power cycles.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.join("serial")).unwrap_or_default()
    }

    /// Whether slot A, which boots, begins with this image.
    pub fn runs(&self, image: &[u8]) -> Result<bool> {
        let mut flash = File::open(self.folder.join("flash"))?;
        flash.seek(SeekFrom::Start(SLOT_A as u64))?;
        let mut held = vec![0; image.len()];
        flash.read_exact(&mut held)?;
        Ok(held == image)
    }

    /// An error if it is not under power any more.
    pub async fn still_powered(&mut self) -> Result<()> {
        if self.power.is_finished() {
            (&mut self.power).await??;
        }
        Ok(())
    }
}

impl Identity {
    /// The page that `device/board/src/provision.rs` reads.
    fn page(&self) -> Vec<u8> {
        let port = self.gateway.port().to_be_bytes();
        let mut page = b"PHP1".to_vec();
        for part in [&self.key[..], self.product.as_bytes(), self.release_key.as_bytes(), &HOST, &port] {
            page.extend_from_slice(part);
        }
        page.extend(0_u64.to_be_bytes());
        page.extend(BLOCK.to_be_bytes());
        page.extend(AWAKE_MS.to_be_bytes());
        page.extend(WAKE_S.to_be_bytes());
        page
    }
}

/// Runs the emulator until it resets, and again: only at power-up does it load the flash.
async fn power(folder: PathBuf) -> Result<()> {
    let log = |name: &str| File::options().create(true).append(true).open(folder.join(name));
    for _ in 0..MAX_CYCLES {
        let mut emulator = Command::new("qemu-system-arm")
            .args(["-machine", "lm3s6965evb", "-kernel", "flash", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .args(["-semihosting-config", "enable=on,target=native", "-nic", "user,model=stellaris"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log("serial")?)
            .stderr(log("emulator.log")?)
            .kill_on_drop(true)
            .spawn()
            .context("qemu-system-arm is needed")?;
        let status = emulator.wait().await?;
        ensure!(status.success(), "the emulator ended with {status}");
    }
    anyhow::bail!("{MAX_CYCLES} power cycles: the board does not come to rest")
}
