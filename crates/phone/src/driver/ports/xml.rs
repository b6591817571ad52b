//! As much of XML as a router's answers need, and no more: elements and their text. There are no
//! entities but the five predefined ones, and a document type declaration ends the reading, so
//! that nothing that is read ever grows.

/// One step through a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node<'a> {
    /// An element begins; its name without a namespace prefix.
    Open(&'a str),
    /// Text, trimmed, with its references replaced; never empty.
    Text(String),
    /// An element ends.
    Close(&'a str),
}

/// Walks through a document as far as it can be understood.
pub(super) fn nodes(text: &str) -> Nodes<'_> {
    Nodes { rest: text }
}

/// The text of the first element with this name.
pub(super) fn value(text: &str, name: &str) -> Option<String> {
    let mut inside = false;
    for node in nodes(text) {
        match node {
            Node::Open(opened) => inside = opened == name,
            Node::Text(text) if inside => return Some(text),
            Node::Text(_) => {}
            Node::Close(_) => inside = false,
        }
    }
    None
}

pub(super) struct Nodes<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        loop {
            let (before, tag) = match self.rest.find('<') {
                Some(0) => ("", self.rest.get(1..)?),
                Some(at) => {
                    let (before, tag) = self.rest.split_at(at);
                    self.rest = tag;
                    (before, "")
                }
                None => return None,
            };
            if !before.is_empty() {
                let text = before.trim();
                if !text.is_empty() {
                    return Some(Node::Text(unescape(text)));
                }
                continue;
            }
            if let Some(comment) = tag.strip_prefix("!--") {
                self.rest = comment.split_once("-->")?.1;
            } else if let Some(data) = tag.strip_prefix("![CDATA[") {
                let (text, rest) = data.split_once("]]>")?;
                self.rest = rest;
                let text = text.trim();
                if !text.is_empty() {
                    return Some(Node::Text(text.to_owned()));
                }
            } else if let Some(instruction) = tag.strip_prefix('?') {
                self.rest = instruction.split_once("?>")?.1;
            } else if tag.starts_with('!') {
                return None;
            } else {
                let (inside, rest) = tag.split_once('>')?;
                self.rest = rest;
                if let Some(name) = inside.strip_prefix('/') {
                    return Some(Node::Close(local_name(name)));
                }
                // An empty element says nothing here.
                if !inside.ends_with('/') {
                    return Some(Node::Open(local_name(inside)));
                }
            }
        }
    }
}

/// The name at the start of a tag, without its namespace prefix.
fn local_name(tag: &str) -> &str {
    let name = tag.split_whitespace().next().unwrap_or_default();
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn unescape(text: &str) -> String {
    // The ampersand last, so that what it gives is not read again.
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_their_text() {
        let text = "<?xml version=\"1.0\"?><!-- <no> --><s:a xmlns:s='x'> <b>1 &amp;lt; 2</b><c/>\
                    <![CDATA[<raw>]]></s:a>";
        let expected = [
            Node::Open("a"),
            Node::Open("b"),
            Node::Text("1 &lt; 2".to_owned()),
            Node::Close("b"),
            Node::Text("<raw>".to_owned()),
            Node::Close("a"),
        ];
        assert!(nodes(text).eq(expected));
        assert_eq!(value(text, "b").as_deref(), Some("1 &lt; 2"));
        assert_eq!(value(text, "c"), None);
    }

    #[test]
    fn what_is_torn_or_declares_entities_ends_early() {
        for text in [
            "<a",
            "<a><!-- x",
            "<a><![CDATA[ x",
            "<a>text",
            "<",
            "<>",
            "</",
            "a>b",
            "<a:>x",
        ] {
            assert!(nodes(text).count() <= 3, "{text}");
        }
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\">]><a>&b;&b;</a>";
        assert_eq!(nodes(bomb).count(), 0);
        assert_eq!(value("<a>&b;</a>", "a").as_deref(), Some("&b;"));
        // However deep, nothing recurses.
        assert_eq!(nodes(&"<a>".repeat(20_000)).count(), 20_000);
    }
}
