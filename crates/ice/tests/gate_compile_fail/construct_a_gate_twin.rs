use ringtrue_ice::Gate;

fn forge() -> Gate {
    Gate::without_ice()
}

fn main() {
    let _ = forge;
}
