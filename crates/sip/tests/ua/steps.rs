//! The usual steps of a call.

use ringtrue_sip::{CallHandle, DialogId, OutgoingInvite, SipEvent};

use crate::wire::Wire;

impl Wire {
    pub fn invite(&mut self, node: usize, target: &str, body: &str) -> CallHandle {
        let target = target.parse().unwrap();
        let invite = OutgoingInvite::new(target, body.as_bytes().to_vec());
        self.with(node, |e, now| e.invite(now, invite))
    }

    /// Alice calls bob; gives alice's and bob's handles.
    pub fn call(&mut self) -> (CallHandle, CallHandle) {
        let alice = self.invite(0, "sip:bob@10.0.0.2", "offer");
        let bob = self.incoming(1);
        (alice, bob)
    }

    pub fn incoming(&mut self, node: usize) -> CallHandle {
        self.wait(node, |event| match event {
            SipEvent::Incoming { call, .. } => Some(*call),
            _ => None,
        })
    }

    pub fn accepted(&mut self, node: usize) -> (DialogId, Option<Vec<u8>>) {
        self.wait(node, |event| match event {
            SipEvent::Accepted { dialog, body } => Some((dialog.clone(), body.clone())),
            _ => None,
        })
    }

    pub fn confirmed(&mut self, node: usize) -> (DialogId, Option<Vec<u8>>) {
        self.wait(node, |event| match event {
            SipEvent::Confirmed { dialog, body } => Some((dialog.clone(), body.clone())),
            _ => None,
        })
    }

    /// A call without a 183 that stands; both dialogs.
    pub fn connected(&mut self) -> (DialogId, DialogId) {
        let (_, bob) = self.call();
        self.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
            .unwrap();
        let alice = self.accepted(0).0;
        let bob = self.confirmed(1).0;
        (alice, bob)
    }

    pub fn refused(&mut self, node: usize) -> u16 {
        self.wait(node, |event| match event {
            SipEvent::Refused { status, .. } => Some(*status),
            _ => None,
        })
    }
}
