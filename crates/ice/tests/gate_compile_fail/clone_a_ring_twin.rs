use ringtrue_ice::Ring;

fn copy(ring: &Ring) -> &Ring {
    ring
}

fn main() {
    let _ = copy;
}
