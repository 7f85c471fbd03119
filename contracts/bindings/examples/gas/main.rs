//! What the contracts cost: one `name value unit` a line, for `cargo xtask figures gas`.
//!
//! Every transaction goes to anvil and to the devchain, both under Osaka's rules with the cap on a transaction's gas
//! (EIP-7825). Unless both used the same gas the program ends with an error, so each figure is that of both.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;

mod chains;
mod market;
mod paper;

/// A transaction or a figure that is not what it should be.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A measured value.
struct Figure {
    name: &'static str,
    value: u64,
    unit: &'static str,
}

/// A figure in units of gas.
fn gas(name: &'static str, value: u64) -> Figure {
    Figure { name, value, unit: "gas" }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut chains = chains::Chains::start()?;
    let mut figures = market::measure(&mut chains).await?;
    figures.extend(paper::measure(&mut chains).await?);
    for Figure { name, value, unit } in figures {
        println!("{name} {value} {unit}");
    }
    Ok(())
}
