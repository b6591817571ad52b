use ringtrue_ice::Ring;

fn forge(old: Ring) -> Ring {
    Ring { ..old }
}

fn main() {
    let _ = forge;
}
