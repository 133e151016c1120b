//! The part of Graphviz's DOT that is needed, read as its grammar says.

use std::collections::BTreeMap;

/// What a drawing says.
#[derive(Default, Debug)]
pub struct Drawing {
    /// The labels of nodes by their names, unescaped.
    pub nodes: BTreeMap<String, String>,
    /// The labels of frames, in their order.
    pub frames: Vec<String>,
    /// From, to, label.
    pub arrows: Vec<(String, String, String)>,
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    Text(String),
    Arrow,
    Mark(char),
}

/// Reads a whole drawing.
pub fn parse(text: &str) -> Result<Drawing, String> {
    let mut reader = Reader {
        tokens: tokens(text)?,
        at: 0,
        drawing: Drawing::default(),
    };
    reader.word("digraph")?;
    reader.body()?;
    match reader.next() {
        None => Ok(reader.drawing),
        Some(token) => Err(format!("{token:?} behind the end")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\n' => {}
            '{' | '}' | '[' | ']' | '=' => tokens.push(Token::Mark(c)),
            '-' if chars.next_if_eq(&'>').is_some() => tokens.push(Token::Arrow),
            '"' => {
                let mut quoted = String::new();
                loop {
                    match chars.next().ok_or("a text without an end")? {
                        '"' => break,
                        '\\' => match chars.next().ok_or("a text without an end")? {
                            'n' => quoted.push('\n'),
                            c @ ('"' | '\\') => quoted.push(c),
                            c => return Err(format!("\\{c} in a text")),
                        },
                        c if c.is_control() => return Err(format!("{c:?} in a text")),
                        '&' => {
                            let entity: String = chars.by_ref().take(4).collect();
                            if entity != "amp;" {
                                return Err(format!("&{entity} in a text"));
                            }
                            quoted.push('&');
                        }
                        c => quoted.push(c),
                    }
                }
                tokens.push(Token::Text(quoted));
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c => return Err(format!("{c:?} between words")),
        }
    }
    Ok(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    drawing: Drawing,
}

impl Reader {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn is_next(&mut self, token: &Token) -> bool {
        let is_next = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(is_next);
        is_next
    }

    fn mark(&mut self, mark: char) -> Result<(), String> {
        match self.next() {
            Some(Token::Mark(c)) if c == mark => Ok(()),
            other => Err(format!("{other:?} instead of {mark:?}")),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        match self.next() {
            Some(Token::Word(w)) if w == word => Ok(()),
            other => Err(format!("{other:?} instead of {word:?}")),
        }
    }

    fn any_word(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(format!("{other:?} instead of a word")),
        }
    }

    fn value(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Word(value) | Token::Text(value)) => Ok(value),
            other => Err(format!("{other:?} instead of a value")),
        }
    }

    fn body(&mut self) -> Result<(), String> {
        self.mark('{')?;
        while !self.is_next(&Token::Mark('}')) {
            let word = self.any_word()?;
            if word == "subgraph" {
                let name = self.any_word()?;
                if !name.starts_with("cluster_") {
                    return Err(format!("{name:?} has no frame"));
                }
                self.body()?;
            } else if self.is_next(&Token::Mark('=')) {
                let value = self.value()?;
                if word == "label" {
                    self.drawing.frames.push(value);
                }
            } else if self.is_next(&Token::Arrow) {
                let to = self.any_word()?;
                let label = self.attributes()?;
                self.drawing.arrows.push((word, to, label));
            } else {
                let label = self.attributes()?;
                let is_default = matches!(word.as_str(), "node" | "edge" | "graph");
                if !is_default && self.drawing.nodes.insert(word.clone(), label).is_some() {
                    return Err(format!("{word:?} twice"));
                }
            }
        }
        Ok(())
    }

    /// The label among them.
    fn attributes(&mut self) -> Result<String, String> {
        let mut label = String::new();
        self.mark('[')?;
        while !self.is_next(&Token::Mark(']')) {
            let name = self.any_word()?;
            self.mark('=')?;
            let value = self.value()?;
            if name == "label" {
                label = value;
            }
        }
        Ok(label)
    }
}
