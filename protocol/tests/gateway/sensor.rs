//! A sensor as strict as the real one about what it signs.

use posthouse_protocol::gateway::{Admission, Input, Intent, Report, SensorView};
use posthouse_protocol::id::{Curve, Digest, Version};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::sensor::SignRequest;

use crate::world::{PRODUCT, U_ID, VERSION};

pub(crate) struct Sensor {
    pub(crate) key: SigningKey,
    pub(crate) installed: Version,
    pub(crate) intent: Intent,
    pub(crate) admission: Admission,
    pub(crate) signed: Vec<Digest>,
}

impl Sensor {
    pub(crate) fn new(number: u8) -> Self {
        let mut scalar = [0; 32];
        scalar[31] = number + 1;
        let key = SigningKey::from_bytes(Curve::Secp256k1, &scalar).unwrap();
        Self {
            key,
            installed: Version::new(1),
            intent: Intent::default(),
            admission: Admission::Open,
            signed: Vec::new(),
        }
    }

    pub(crate) fn hello(&self) -> Input {
        Input::Sensor(SensorView {
            device: self.key.device_key(),
            curve: Curve::Secp256k1,
            installed: self.installed,
            awake: true,
            admission: self.admission,
        })
    }

    /// Wakes, does what it finds, and says what came of it.
    pub(crate) fn wake(&mut self) -> Vec<Input> {
        let mut said = vec![self.hello()];
        said.extend(self.intent.sign.and_then(|request| self.sign(&request)));
        if self.intent.image {
            self.installed = VERSION;
        }
        said.extend((self.installed == VERSION).then(|| self.report()));
        said
    }

    fn sign(&mut self, request: &SignRequest) -> Option<Input> {
        let digest = request.digest();
        if let SignRequest::Receipt { attempt, u_id, .. } = request {
            assert_eq!(*u_id, U_ID);
            if !self.signed.contains(&digest) {
                let next = self.signed.len() as u8 + 1;
                assert_eq!(attempt.get(), next, "the sensor would refuse this attempt");
                self.signed.push(digest);
            }
        }
        Some(Input::Signature { device: self.key.device_key(), digest, sig: self.key.sign(&digest) })
    }

    fn report(&self) -> Input {
        let digest = posthouse_protocol::digest::installed(&PRODUCT, VERSION, &U_ID);
        Input::Status {
            device: self.key.device_key(),
            installed: VERSION,
            report: Some(Report { version: VERSION, u_id: U_ID, sig: self.key.sign(&digest) }),
        }
    }
}
