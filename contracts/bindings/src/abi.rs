//! The contracts as compiled.
//!
//! Both implementations of the bounty share one interface, so there is one binding for it; the
//! artifacts of the implementations give their bytecode.
#![allow(missing_docs, clippy::too_many_arguments, reason = "generated from the artifacts")]

/// The factory: its calls, events, errors and bytecode.
mod factory {
    alloy::sol!(
        #[sol(rpc)]
        #[derive(Debug, PartialEq, Eq)]
        UpdateFactory,
        "../artifacts/UpdateFactory.json"
    );
}

/// The bounty: its calls, events and errors.
mod bounty {
    alloy::sol!(
        #[sol(rpc)]
        #[derive(Debug, PartialEq, Eq)]
        UpdateBounty,
        "../artifacts/IUpdateBounty.json"
    );
}

pub use bounty::UpdateBounty;
pub use factory::UpdateFactory;
