//! A checkpoint on which independent endpoints agree.
//!
//! A light client cannot find its first block by itself: somebody has to be believed once. Asking several operators who do
//! not know each other, and taking only what all of them call finalized, makes that as good as the best of them.

use crate::beacon::{BeaconError, FinalizedRoot, endpoint, has, newest};
use crate::http::{Endpoint, Limits, UrlError};

/// What one endpoint says.
#[derive(Debug)]
pub struct Said {
    /// Host, and port where it is not the scheme's own.
    pub endpoint: String,
    /// Its newest finalized block, or why it says nothing of use.
    pub finalized: Result<FinalizedRoot, BeaconError>,
    /// Whether it has the common block as finalized too, where there is one to ask about.
    pub confirms: Option<Result<(), BeaconError>>,
}

/// What follows from all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every endpoint that answered, two at least, has this block as finalized.
    Agreed(FinalizedRoot),
    /// Only one endpoint answered: it is believed or not, nobody confirms it.
    Alone(FinalizedRoot),
    /// They contradict each other: none of them is to be believed until that is cleared up.
    Disagree,
    /// None answered.
    Silent,
}

/// The answers, in the order of the URLs, and the verdict.
#[derive(Debug)]
pub struct Agreement {
    /// What each said.
    pub said: Vec<Said>,
    /// What follows.
    pub verdict: Verdict,
}

/// Asks every endpoint for its newest finalized block, and then whether it has the oldest of those: endpoints are an epoch
/// apart now and then, which is no contradiction.
///
/// # Errors
/// [`UrlError`]: no URL, or one that cannot be used.
pub async fn agree(urls: &[String], limits: Limits) -> Result<Agreement, UrlError> {
    if urls.is_empty() {
        return Err(UrlError::None);
    }
    let endpoints = urls.iter().map(|url| endpoint(url, limits)).collect::<Result<Vec<_>, _>>()?;
    let mut said = Vec::new();
    for endpoint in &endpoints {
        said.push(Said { endpoint: endpoint.name(), finalized: newest(endpoint).await, confirms: None });
    }
    let oldest =
        said.iter().filter_map(|said| said.finalized.as_ref().ok().copied()).min_by_key(|root| root.slot);
    if let Some(oldest) = oldest {
        confirm(&endpoints, &mut said, oldest).await;
    }
    let verdict = verdict(&said, oldest);
    Ok(Agreement { said, verdict })
}

async fn confirm(endpoints: &[Endpoint], said: &mut [Said], block: FinalizedRoot) {
    for (endpoint, said) in endpoints.iter().zip(said) {
        said.confirms = match said.finalized {
            Ok(own) if own == block => Some(Ok(())),
            Ok(_) => Some(has(endpoint, block).await),
            Err(_) => None,
        };
    }
}

/// An endpoint that says nothing does not count; one that says something else does.
fn verdict(said: &[Said], oldest: Option<FinalizedRoot>) -> Verdict {
    let Some(oldest) = oldest else { return Verdict::Silent };
    let confirms = said.iter().filter_map(|said| said.confirms.as_ref());
    let (mut yes, mut no) = (0, 0);
    for confirm in confirms {
        match confirm {
            Ok(()) => yes += 1,
            // It answered a moment ago and cannot be asked now: neither for nor against.
            Err(BeaconError::Http(_)) => {}
            Err(_) => no += 1,
        }
    }
    match (yes, no) {
        (_, 1..) => Verdict::Disagree,
        (2.., 0) => Verdict::Agreed(oldest),
        _ => Verdict::Alone(oldest),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;
    use crate::http::HttpError;

    fn said(confirms: Option<Result<(), BeaconError>>) -> Said {
        let finalized = if confirms.is_some() {
            Ok(FinalizedRoot { slot: 64, root: B256::ZERO })
        } else {
            Err(HttpError::Status(500).into())
        };
        Said { endpoint: "node.example".into(), finalized, confirms }
    }

    #[test]
    fn one_contradiction_outweighs_any_number_who_agree() {
        let block = FinalizedRoot { slot: 64, root: B256::ZERO };
        let other = BeaconError::Contradicts { slot: 64, ours: B256::ZERO, theirs: B256::repeat_byte(1) };
        let yes = || said(Some(Ok(())));
        assert_eq!(verdict(&[yes(), yes()], Some(block)), Verdict::Agreed(block));
        assert_eq!(verdict(&[yes(), yes(), said(Some(Err(other)))], Some(block)), Verdict::Disagree);
        assert_eq!(verdict(&[yes(), said(None)], Some(block)), Verdict::Alone(block));
        assert_eq!(verdict(&[said(None)], None), Verdict::Silent);
    }
}
