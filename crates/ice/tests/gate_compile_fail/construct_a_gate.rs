use ringtrue_ice::Gate;

fn forge() -> Gate {
    Gate { agent: None }
}

fn main() {
    let _ = forge;
}
