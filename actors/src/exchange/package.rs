//! The package of an update: fetched until it comes, checked once, and then in force or refused.

use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use posthouse_audit::{Kind, Record};
use posthouse_light_client::words;
use posthouse_protocol::gateway::{Input, PackageFault};
use posthouse_protocol::id::Bounty;

use super::{Exchanges, audit};
use crate::dsn::{FetchPackage, FetchedPackage};
use crate::store::SavePackage;
use crate::verifier::{CheckPackage, CheckedPackage};

/// Waits between tries to fetch a package: first and longest.
pub(super) const PACKAGE_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Exchanges {
    pub(super) fn fetch_package(&mut self, bounty: Bounty, wait: Duration, ctx: &mut Context<Self>) {
        let Some(follow) = self.follows.get(&bounty) else { return };
        if follow.machine.state().is_over() {
            return;
        }
        let fetch = self.peers.dsn.send(FetchPackage(follow.machine.update().p_id));
        let done = move |fetched: Result<Result<FetchedPackage, _>, _>,
                         actor: &mut Self,
                         ctx: &mut Context<Self>| {
            match fetched {
                Ok(Ok(fetched)) => actor.check_package(bounty, fetched, ctx),
                Ok(Err(error)) => actor.package_failed(bounty, &format!("{error}"), wait, ctx),
                Err(error) => actor.package_failed(bounty, &format!("{error}"), wait, ctx),
            }
        };
        ctx.spawn(fetch.into_actor(self).map(done));
    }

    fn package_failed(&mut self, bounty: Bounty, why: &str, wait: Duration, ctx: &mut Context<Self>) {
        // Peers' addresses are in it, and an address is text of theirs.
        let why = words(why);
        tracing::warn!(%bounty, why, "package not fetched");
        if let Some(follow) = self.follows.get_mut(&bounty) {
            follow.trouble = Some(format!("package: {why}"));
        }
        let next = (wait * 2).min(PACKAGE_RETRY.1);
        ctx.run_later(wait, move |actor, ctx| actor.fetch_package(bounty, next, ctx));
    }

    pub(super) fn check_package(&mut self, bounty: Bounty, fetched: FetchedPackage, ctx: &mut Context<Self>) {
        let Some(follow) = self.follows.get(&bounty) else { return };
        let update = follow.machine.update().clone();
        let Some((_, key)) = self.site.products.get(&update.product).copied() else { return };
        let FetchedPackage { root, vk } = fetched;
        let check = CheckPackage { update, key, root: root.clone(), vk: vk.clone() };
        let done = move |checked: Result<Result<CheckedPackage, PackageFault>, _>,
                         actor: &mut Self,
                         ctx: &mut Context<Self>| {
            match checked {
                Ok(checked) => actor.package_checked(bounty, checked, SavePackage { bounty, root, vk }, ctx),
                Err(error) => actor.package_failed(bounty, &format!("{error}"), PACKAGE_RETRY.0, ctx),
            }
        };
        ctx.spawn(self.peers.verifier.send(check).into_actor(self).map(done));
    }

    fn package_checked(
        &mut self,
        bounty: Bounty,
        checked: Result<CheckedPackage, PackageFault>,
        save: SavePackage,
        ctx: &mut Context<Self>,
    ) {
        let checked = checked.and_then(|checked| self.refuse_reused_key(&bounty, checked));
        let checked = match checked {
            Ok(checked) => checked,
            Err(fault) => return self.package_rejected(bounty, fault, ctx),
        };
        // If this is lost, the package is fetched again after a restart.
        self.peers.store.do_send(save);
        let Some(follow) = self.follows.get_mut(&bounty) else { return };
        let (product, version) = (follow.machine.update().product, follow.machine.update().version);
        follow.trouble = None;
        let release = checked.release.clone();
        let hash = Some(release.release().u_id.to_string());
        self.peers.audit.tell(Record { hash, ..audit::of(Kind::ReleaseAccepted, follow.machine.update()) });
        follow.package = Some(checked);
        self.drive(bounty, Input::Package(release), ctx);
        let older: Vec<Bounty> = self
            .follows
            .iter()
            .filter(|(_, other)| {
                let update = other.machine.update();
                update.product == product && update.version < version
            })
            .map(|(bounty, _)| *bounty)
            .collect();
        for bounty in older {
            self.drive(bounty, Input::Newer(version), ctx);
        }
    }

    /// The last good update stays in force.
    fn package_rejected(&mut self, bounty: Bounty, fault: PackageFault, ctx: &mut Context<Self>) {
        tracing::error!(%bounty, %fault, "announcement ignored");
        if let Some(follow) = self.follows.get_mut(&bounty) {
            follow.trouble = Some(fault.to_string());
            let refused = audit::of(Kind::ReleaseRefused, follow.machine.update());
            self.peers.audit.tell(Record { reason: Some(fault.to_string()), ..refused });
        }
        self.drive(bounty, Input::PackageRejected(fault), ctx);
    }

    /// Who bought the release that a payload key was used for before has this one for nothing.
    fn refuse_reused_key(
        &self,
        bounty: &Bounty,
        checked: CheckedPackage,
    ) -> Result<CheckedPackage, PackageFault> {
        let key_id = checked.release.release().key_id;
        let reused = key_id.is_some()
            && self.follows.iter().any(|(other, follow)| {
                other != bounty
                    && follow.machine.package().is_some_and(|known| known.release().key_id == key_id)
            });
        if reused { Err(PackageFault::KeyReused) } else { Ok(checked) }
    }
}
