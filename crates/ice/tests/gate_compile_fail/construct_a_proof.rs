use ringtrue_ice::PathProof;

fn forge(old: PathProof) -> PathProof {
    PathProof {
        local_ufrag: String::new(),
        ..old
    }
}

fn main() {
    let _ = forge;
}
