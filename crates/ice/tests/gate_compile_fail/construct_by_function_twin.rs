fn main() {
    let _ = ringtrue_ice::PathProof::local_ufrag;
}
