fn main() {
    let _ = ringtrue_ice::PathProof::new;
}
