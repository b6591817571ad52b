use ringtrue_ice::Ring;

fn copy(ring: &Ring) -> Ring {
    ring.clone()
}

fn main() {
    let _ = copy;
}
