//! The sensor's firmware: the library, the CoAP carrier, smoltcp for UDP, and the board's drivers.
#![no_std]
#![no_main]

use core::fmt::Write as _;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{entry, exception};
use posthouse_board::{
    clock, ethernet::Ethernet, layout::slots, provision::Provision, serial::Serial, stack, watchdog,
};
use posthouse_device::coap::{Coap, MAX_REQUEST, MAX_RESPONSE, Next, Settings};
use posthouse_device::{Device, Flow};
use posthouse_protocol::device::{Boot, Stored};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint};

/// The board's address in QEMU's user network.
const ADDRESS: IpCidr = IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24);
const PORT: u16 = 5683;
/// What tells one build from another.
const BUILD: &str = match option_env!("POSTHOUSE_BOARD_BUILD") {
    Some(build) => build,
    None => "0",
};

#[entry]
fn main() -> ! {
    let mut say = Serial::on();
    let Some(mut core) = cortex_m::Peripherals::take() else { SCB::sys_reset() };
    clock::start(&mut core.SYST);
    // SAFETY: nothing here relies on interrupts being masked.
    unsafe { cortex_m::interrupt::enable() };

    let Some(provision) = Provision::read() else { stop(&mut say, "not provisioned") };
    let slots = slots();
    let Ok(boot) = slots.boot() else { stop(&mut say, "flash") };
    let _ = writeln!(say, "boot build={BUILD} {}", name(boot));

    let mut ethernet = Ethernet::on();
    let mut config = Config::new(ethernet.address().into());
    config.random_seed = 1;
    let mut interface = Interface::new(config, &mut ethernet, instant());
    interface.update_ip_addrs(|addresses| {
        let _ = addresses.push(ADDRESS);
    });
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 2]);
    let (mut rx, mut tx) = ([0; MAX_RESPONSE + 64], [0; MAX_REQUEST + 64]);
    let mut storage = [smoltcp::iface::SocketStorage::EMPTY; 1];
    let mut sockets = SocketSet::new(&mut storage[..]);
    let socket = sockets.add(Socket::new(
        PacketBuffer::new(&mut rx_meta[..], &mut rx[..]),
        PacketBuffer::new(&mut tx_meta[..], &mut tx[..]),
    ));
    // The self-test of a new image: the flash is readable, the key is there, and the network takes its socket.
    if sockets.get_mut::<Socket>(socket).bind(PORT).is_err() || slots.confirm().is_err() {
        SCB::sys_reset();
    }

    let ([a, b, c, d], port) = provision.gateway;
    let gateway = IpEndpoint::new(IpAddress::v4(a, b, c, d), port);
    let factory = Stored::factory(provision.installed);
    let (config, key) = (provision.config(), provision.key);
    let settings = Settings {
        seed: 1,
        ack_timeout_ms: 2000,
        awake_ms: provision.awake_ms,
        next_wake_s: provision.wake_s,
    };
    let Ok(mut device) = Device::open(config, factory, boot, slots, key, slots) else {
        stop(&mut say, "state");
    };
    // What has to be written after power-up, before anything else: an activation as well, if the power went before it.
    match device.tick(clock::now(), &mut |_| {}) {
        Ok(Flow::Reboot) => SCB::sys_reset(),
        Ok(Flow::Continue) if slots.settle().is_ok() => {}
        _ => stop(&mut say, "state"),
    }
    let _ = writeln!(say, "ready installed={}", device.sensor().stored().installed);

    let mut coap = Coap::new(settings);
    let mut out = [0; MAX_REQUEST];
    let mut asleep_until = 0;
    loop {
        watchdog::feed();
        let now = clock::now();
        interface.poll(instant(), &mut ethernet, &mut sockets);
        let socket = sockets.get_mut::<Socket>(socket);
        if asleep_until != u64::MAX && now >= asleep_until {
            asleep_until = u64::MAX;
            if coap.wake(&mut device, now).is_err() {
                stop(&mut say, "wake");
            }
        }
        while let Ok((datagram, from)) = socket.recv() {
            if from.endpoint == gateway && coap.receive(&mut device, datagram, now).is_err() {
                stop(&mut say, "receive");
            }
        }
        if asleep_until != u64::MAX {
            cortex_m::asm::wfi();
            continue;
        }
        match coap.poll(&mut device, now, &mut out) {
            Ok(Next::Send(len)) => {
                // A full buffer loses the datagram, as the network may.
                let _ = socket.send_slice(&out[..len], gateway);
            }
            Ok(Next::Wait(until)) => {
                if until > now {
                    cortex_m::asm::wfi();
                }
            }
            Ok(Next::Sleep(seconds)) => {
                let status = device.status();
                let _ = writeln!(
                    say,
                    "sleep installed={} result={} next={} stack={}",
                    status.installed,
                    status.result as u8,
                    status.next,
                    stack::depth()
                );
                asleep_until = now + u64::from(seconds) * 1000;
            }
            Ok(Next::Reboot) => {
                let _ = writeln!(say, "reboot stack={}", stack::depth());
                SCB::sys_reset();
            }
            Err(_) => stop(&mut say, "poll"),
        }
    }
}

fn name(boot: Boot) -> &'static str {
    match boot {
        Boot::Image(_) => "image",
        Boot::Reverted => "reverted",
        Boot::Unknown => "unknown",
    }
}

fn instant() -> Instant {
    Instant::from_millis(clock::now() as i64)
}

/// A part of the board failed: what is in flash is sound, so start again.
fn stop(say: &mut Serial, what: &str) -> ! {
    let _ = writeln!(say, "failed: {what}");
    SCB::sys_reset()
}

#[exception]
fn SysTick() {
    clock::count();
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
