//! `cargo xtask figures sensors`: how fast libcoap's client is served an image, by the gateway's endpoint and by libcoap's own
//! server, in turns: the same client, file and size of block.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler};
use posthouse_actors::coap::{Coap, Config};
use posthouse_actors::messages::{
    Image, Intent, SensorHello, SensorRefusal, SensorSignature, SensorStatus, SetIntent,
};
use posthouse_actors::sensors::{Limits, Policy, Sensors};
use posthouse_protocol::id::{DeviceId, UpdateId};
use sha2::{Digest as _, Sha256};

const CLIENT: &str = "coap-client-notls";
const SERVER: &str = "coap-server-notls";
const LEN: usize = 1 << 20;
/// Fetches of each, in turns; the fastest counts, as whatever else runs here only ever adds.
const ROUNDS: usize = 25;
/// Sizes of block, bytes: what a radio carries, what a sensor buffers, and the largest.
const SIZES: [u16; 3] = [64, 512, 1024];

/// The exchange's place: nobody says anything.
struct Nobody;

impl Actor for Nobody {
    type Context = Context<Self>;
}

macro_rules! hears {
    ($($message:ty),*) => {$(
        impl Handler<$message> for Nobody {
            type Result = ();
            fn handle(&mut self, _: $message, _: &mut Context<Self>) {}
        }
    )*};
}

hears!(SensorHello, SensorSignature, SensorStatus, SensorRefusal);

/// The gateway's endpoint with its hub on a thread of their own, as in the gateway.
fn ours(image: &Path, bytes: &[u8]) -> String {
    let u_id = UpdateId::new(Sha256::digest(bytes).into());
    let image = Image { u_id, size: bytes.len() as u64, path: image.to_owned() };
    let (sender, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            let nobody = Nobody.start();
            let (policy, limits) = (Policy::default(), Limits::default());
            let (a, b, c, d) = (nobody.clone(), nobody.clone(), nobody.clone(), nobody);
            let hub =
                Sensors::new(a.recipient(), b.recipient(), c.recipient(), d.recipient(), policy, limits)
                    .start();
            let intent = Intent { image: Some(image), ..Intent::default() };
            hub.send(SetIntent { device: DeviceId::new([1; 16]), intent }).await.unwrap();
            let config = Config::new((Ipv4Addr::LOCALHOST, 0).into());
            let (_, address) = Coap::start(config, &hub).await.unwrap();
            sender.send(address).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let address: SocketAddr = started.recv().unwrap();
    format!("coap://{address}/ph/image/{u_id}")
}

/// libcoap's server, which ends with this.
struct Theirs(Child, String);

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn theirs(image: &Path) -> Theirs {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let server = Command::new(SERVER)
        .args(["-A", "127.0.0.1", "-p", &port.to_string(), "-d", "4"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("coap://127.0.0.1:{port}/image");
    let theirs = Theirs(server, url.clone());
    // The client repeats what a server that is still starting does not answer.
    let put = ["-m", "put", "-b", "1024", "-B", "30", "-f", image.to_str().unwrap(), &url];
    assert!(Command::new(CLIENT).args(put).stdout(Stdio::null()).status().unwrap().success());
    theirs
}

fn fetch(url: &str, size: u16, out: &Path, image: &[u8]) -> Duration {
    let _ = std::fs::remove_file(out);
    let begun = Instant::now();
    let arguments = ["-B", "120", "-b", &size.to_string(), "-o", out.to_str().unwrap(), url];
    assert!(Command::new(CLIENT).args(arguments).status().unwrap().success());
    let took = begun.elapsed();
    assert!(std::fs::read(out).unwrap() == image, "{url}: not the image");
    took
}

fn fastest(times: Vec<Duration>) -> f64 {
    times.into_iter().min().map_or(f64::INFINITY, |time| time.as_secs_f64())
}

fn main() {
    let folder = std::env::temp_dir().join(format!("posthouse-blocks-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let (image, out) = (folder.join("image"), folder.join("fetched"));
    // Each block unlike the others.
    let bytes: Vec<u8> = (0..LEN as u32 / 4).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&image, &bytes).unwrap();
    let ours = ours(&image, &bytes);
    let theirs = theirs(&image);
    let mut least = f64::INFINITY;
    for size in SIZES {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(fetch(&ours, size, &out, &bytes));
            times[1].push(fetch(&theirs.1, size, &out, &bytes));
        }
        let [ours, theirs] = times.map(fastest);
        let blocks = LEN as f64 / f64::from(size);
        println!("blocks_{size}_per_second {:.0} 1/s", blocks / ours);
        println!("libcoap_blocks_{size}_per_second {:.0} 1/s", blocks / theirs);
        least = least.min(theirs / ours);
    }
    println!("block_service_vs_libcoap {least:.2} 1");
    drop(theirs);
    std::fs::remove_dir_all(&folder).unwrap();
}
