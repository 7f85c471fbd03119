//! What gateways ask, and are answered.

use super::*;

impl World {
    fn fresh(&mut self) -> [u8; 32] {
        self.counter += 1;
        crate::digest::installed(&ProductId::new([0; 32]), Version::new(self.counter), &U_ID).to_bytes()
    }

    pub(in super::super) fn ask(&mut self, g: usize, request: Request) -> Option<Response> {
        let entropy = self.fresh();
        self.last = None;
        let (id, peer) = (self.counter, &gateway(g));
        self.machine.handle(Input::Request { id, peer, request, entropy: &entropy }, self.now);
        self.run(usize::MAX);
        self.last.clone()
    }

    pub(in super::super) fn hello(&mut self, g: usize, d: usize) -> Option<Response> {
        let peer = gateway(g).0;
        let delegation = self.keys[d].sign(&digest::delegation(CHAIN, &BOUNTY, &peer));
        let device_key = self.keys[d].device_key();
        let hello = Request::Hello { chain: CHAIN, bounty: BOUNTY, device_key, delegation };
        let response = self.ask(g, hello);
        if let Some(Response::Challenge { c, .. }) = &response {
            self.challenges.insert(peer, *c);
        }
        response
    }

    /// Until the device's share was looked up.
    pub(in super::super) fn greet(&mut self, g: usize, d: usize) -> Option<Response> {
        assert!(matches!(self.hello(g, d), Some(Response::Pending { .. })));
        self.settle();
        self.hello(g, d)
    }

    pub(in super::super) fn auth(&mut self, g: usize) -> Option<Response> {
        let peer = gateway(g);
        let c = self.challenges.get(&peer.0).copied().unwrap_or([0; 32]);
        let sig = peer.sign(&digest::challenge(CHAIN, &BOUNTY, &PAYEE, &c));
        let response = self.ask(g, Request::Auth { chain: CHAIN, bounty: BOUNTY, sig });
        if let Some(Response::Offer { s, .. }) = &response {
            self.offers.insert(peer.0, *s);
        }
        response
    }

    /// Until the offer is there.
    pub(in super::super) fn offer(&mut self, g: usize, d: usize) -> LockHash {
        self.greet(g, d);
        self.auth(g);
        self.settle();
        assert!(matches!(self.auth(g), Some(Response::Offer { .. })), "{:?}", self.last);
        self.offers[&gateway(g).0]
    }

    pub(in super::super) fn s(&self, g: usize) -> LockHash {
        self.offers.get(&gateway(g).0).copied().unwrap_or(LockHash::new([9; 32]))
    }

    pub(in super::super) fn receipt_request(&self, g: usize, d: usize, attempt: u8) -> Request {
        let (s, attempt) = (self.s(g), Attempt::new(attempt));
        let sig = self.keys[d].sign(&digest::receipt(CHAIN, &BOUNTY, &PAYEE, &U_ID, &s, attempt));
        let device_key = self.keys[d].device_key();
        Request::Receipt { bounty: BOUNTY, s, device_key, attempt, sig }
    }

    pub(in super::super) fn receipt(&mut self, g: usize, d: usize) -> Option<Response> {
        let request = self.receipt_request(g, d, 1);
        self.ask(g, request)
    }

    pub(in super::super) fn seal(&mut self, g: usize) -> Option<Response> {
        let s = self.s(g);
        self.ask(g, Request::Seal { bounty: BOUNTY, s })
    }

    /// An offer to a gateway by its first device, the receipts of all, and the seal.
    pub(in super::super) fn batch(&mut self, g: usize, devices: &[usize]) -> LockHash {
        let s = self.offer(g, devices[0]);
        for d in devices {
            self.receipt(g, *d);
        }
        self.seal(g);
        s
    }

    pub(in super::super) fn poll_key(&mut self, g: usize) -> Option<Response> {
        let s = self.s(g);
        self.ask(g, Request::Poll { bounty: BOUNTY, s })
    }

    pub(in super::super) fn copy(&mut self, g: usize, s: LockHash, d: usize) -> Option<Response> {
        let device_key = self.keys[d].device_key();
        self.ask(g, Request::Copy { bounty: BOUNTY, s, device_key })
    }
}
