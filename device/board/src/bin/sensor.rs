//! The sensor's firmware: the library, the CoAP carrier, smoltcp for UDP, and the board's drivers.
#![no_std]
#![no_main]

use core::convert::Infallible;
use core::fmt::Write as _;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{entry, exception};
use posthouse_board::network::{Buffers, Network};
use posthouse_board::nor::Chip;
use posthouse_board::{boots, clock, layout::slots, provision::Provision, serial::Serial, stack, watchdog};
use posthouse_device::boot::Slots;
use posthouse_device::coap::{Coap, MAX_REQUEST, Next, Settings};
use posthouse_device::{Device, Flow, P256Key};
use posthouse_protocol::device::{Boot, Stored};

/// What tells one build from another.
const BUILD: &str = match option_env!("POSTHOUSE_BOARD_BUILD") {
    Some(build) => build,
    None => "0",
};
/// The wake that is not due, as the sensor is awake.
const AWAKE: u64 = u64::MAX;

type Sensor = Device<Slots<Chip>, P256Key, Slots<Chip>>;

#[entry]
fn main() -> ! {
    let mut say = Serial::on();
    let Err(what) = run(&mut say);
    // A part of the board failed: what is in flash is sound, so start again. An image on trial is then exchanged back.
    let _ = writeln!(say, "failed: {what}");
    SCB::sys_reset()
}

/// From power-up; ends where a part of the board fails, and says which.
fn run(say: &mut Serial) -> Result<Infallible, &'static str> {
    let mut core = cortex_m::Peripherals::take().ok_or("peripherals")?;
    clock::start(&mut core.SYST);
    // SAFETY: nothing here relies on interrupts being masked.
    unsafe { cortex_m::interrupt::enable() };

    let provision = Provision::read().ok_or("not provisioned")?;
    let boot = slots().boot().map_err(|_| "flash")?;
    let _ = writeln!(say, "boot build={BUILD} {}", name(boot));
    let seed = provision.seed(boots::count().map_err(|_| "flash")?);
    let settings =
        Settings { seed, ack_timeout_ms: 2000, awake_ms: provision.awake_ms, next_wake_s: provision.wake_s };
    let mut buffers = Buffers::default();
    let mut network = Network::on(&mut buffers, provision.gateway, seed);
    if !network.is_open() {
        return Err("network");
    }
    let (config, factory) = (provision.config(), Stored::factory(provision.installed));
    let mut sensor =
        Device::open(config, factory, boot, slots(), provision.key, slots()).map_err(|_| "state")?;
    power_up(&mut sensor)?;
    let _ = writeln!(say, "ready installed={}", sensor.sensor().stored().installed);
    live(&mut sensor, &mut network, Coap::new(settings), say)
}

fn name(boot: Boot) -> &'static str {
    match boot {
        Boot::Image(_) => "image",
        Boot::Reverted => "reverted",
        Boot::Unknown => "unknown",
    }
}

/// What has to be done at power-up before anything else.
fn power_up(sensor: &mut Sensor) -> Result<(), &'static str> {
    // An image on trial has tested itself by now: the flash is readable, the key is there, the network has taken its socket, and
    // the state can be read.
    slots().confirm().map_err(|_| "image")?;
    // A report, or an activation, if the power went before it.
    match sensor.tick(clock::now(), &mut |_| {}) {
        Ok(Flow::Reboot) => SCB::sys_reset(),
        Ok(Flow::Continue) => slots().settle().map_err(|_| "flash"),
        Err(_) => Err("state"),
    }
}

/// The main loop, to the next reboot.
fn live(
    sensor: &mut Sensor,
    network: &mut Network<'_>,
    mut coap: Coap,
    say: &mut Serial,
) -> Result<Infallible, &'static str> {
    let mut out = [0; MAX_REQUEST];
    let mut wake_at = 0;
    loop {
        watchdog::feed();
        network.poll();
        let now = clock::now();
        if wake_at != AWAKE && now >= wake_at {
            wake_at = AWAKE;
            coap.wake(sensor, now).map_err(|_| "wake")?;
        }
        while let Some(datagram) = network.receive() {
            coap.receive(sensor, datagram, now).map_err(|_| "receive")?;
        }
        if wake_at != AWAKE {
            cortex_m::asm::wfi();
            continue;
        }
        match coap.poll(sensor, now, &mut out).map_err(|_| "poll")? {
            Next::Send(len) => network.send(&out[..len]),
            Next::Wait(until) if until > now => cortex_m::asm::wfi(),
            Next::Wait(_) => {}
            Next::Sleep(seconds) => {
                sleeps(sensor, say);
                wake_at = now + u64::from(seconds) * 1000;
            }
            Next::Reboot => {
                let _ = writeln!(say, "reboot stack={}", stack::depth());
                SCB::sys_reset();
            }
        }
    }
}

fn sleeps(sensor: &Sensor, say: &mut Serial) {
    let status = sensor.status();
    let _ = writeln!(
        say,
        "sleep installed={} result={} next={} stack={}",
        status.installed,
        status.result as u8,
        status.next,
        stack::depth()
    );
}

#[exception]
fn SysTick() {
    clock::count();
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
