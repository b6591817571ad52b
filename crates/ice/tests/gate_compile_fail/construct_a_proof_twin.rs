use ringtrue_ice::PathProof;

fn forge(old: PathProof) -> PathProof {
    old
}

fn main() {
    let _ = forge;
}
