//! Messages as kernels have them on ZeroMQ: signed, in parts.

use bytes::Bytes;
use ring::hmac::{self, HMAC_SHA256, Key};

use crate::message::{Channel, Header, Json, Message};

/// What stands between the names of whom a message is for and the message.
const DELIMITER: &[u8] = b"<IDS|MSG>";

/// Signs messages, and checks them.
#[derive(Debug)]
pub(super) struct Signer(Key);

impl Signer {
    /// One for the key of a connection file.
    pub(super) fn new(key: &str) -> Self {
        Self(Key::new(HMAC_SHA256, key.as_bytes()))
    }

    /// The parts of a message.
    ///
    /// # Errors
    /// It is no JSON.
    pub(super) fn sign(&self, message: &Message) -> serde_json::Result<Vec<Bytes>> {
        let header = serde_json::to_vec(&message.header)?;
        let parent = match &message.parent_header {
            Some(parent) => serde_json::to_vec(parent)?,
            None => b"{}".to_vec(),
        };
        let texts = [
            Bytes::from(header),
            Bytes::from(parent),
            Bytes::copy_from_slice(message.metadata.as_str().as_bytes()),
            Bytes::copy_from_slice(message.content.as_str().as_bytes()),
        ];
        let mut parts = vec![Bytes::from_static(DELIMITER), self.signature(&texts)];
        parts.extend(texts);
        parts.extend(message.buffers.iter().cloned());
        Ok(parts)
    }

    /// The message in these parts.
    ///
    /// # Errors
    /// It is none, or signed by somebody else; in words.
    pub(super) fn read(&self, channel: Channel, parts: Vec<Vec<u8>>) -> Result<Message, String> {
        let mut parts = parts.into_iter().skip_while(|part| part != DELIMITER);
        parts.next().ok_or("a message without a delimiter")?;
        let signature = parts.next().ok_or("a message without a signature")?;
        let texts: Vec<Bytes> = parts.by_ref().take(4).map(Bytes::from).collect();
        let [header, parent, metadata, content] = texts.as_slice() else {
            return Err(format!("a message of {} parts instead of 4", texts.len()));
        };
        let mut expected = hmac::Context::with_key(&self.0);
        texts.iter().for_each(|text| expected.update(text));
        if signature != hex(expected.sign().as_ref()) {
            return Err("a message with a wrong signature".to_owned());
        }
        let json = |text: &Bytes| {
            serde_json::from_slice::<Json>(text).map_err(|error| format!("broken JSON: {error}"))
        };
        let parent: Option<Header> = match parent.trim_ascii() {
            b"{}" | b"null" | b"" => None,
            // Some kernels say only half of it.
            text => serde_json::from_slice(text).ok(),
        };
        Ok(Message {
            channel,
            header: serde_json::from_slice(header)
                .map_err(|error| format!("a broken header: {error}"))?,
            parent_header: parent,
            metadata: json(metadata)?,
            content: json(content)?,
            buffers: parts.map(Bytes::from).collect(),
        })
    }

    fn signature(&self, texts: &[Bytes]) -> Bytes {
        let mut context = hmac::Context::with_key(&self.0);
        texts.iter().for_each(|text| context.update(text));
        hex(context.sign().as_ref()).into()
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| {
        [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::told;

    fn parts_of(signer: &Signer) -> (Message, Vec<Vec<u8>>) {
        let mut message = told::message(Channel::Iopub, "stream", None, &json!({"text": "ä"}));
        message.parent_header = Some(message.header.clone());
        message.buffers = vec![Bytes::from_static(b"\0\xff")];
        let parts = signer.sign(&message).unwrap();
        let mut all = vec![b"kernel.stream".to_vec()];
        all.extend(parts.iter().map(|part| part.to_vec()));
        (message, all)
    }

    #[test]
    fn what_is_signed_can_be_read() {
        let signer = Signer::new("a key");
        let (message, parts) = parts_of(&signer);
        assert_eq!(signer.read(Channel::Iopub, parts), Ok(message));
    }

    #[test]
    fn the_signature_is_that_of_other_libraries() {
        // As `hmac.new(b"key", b"{}{}{}{}", "sha256").hexdigest()` of Python says it.
        let texts = [(); 4].map(|()| Bytes::from_static(b"{}"));
        let signature = Signer::new("key").signature(&texts);
        assert_eq!(
            signature,
            "ca767b02c5bc061ed184a9a029e7f93a7f2f7ed4e8fe74120fc1212f0b008fa3"
        );
    }

    #[test]
    fn what_others_say_is_refused() {
        let signer = Signer::new("a key");
        let (_, parts) = parts_of(&Signer::new("another"));
        let problem = signer.read(Channel::Iopub, parts).unwrap_err();
        assert!(problem.contains("wrong signature"), "{problem}");
        let (_, mut parts) = parts_of(&signer);
        parts[6] = b"{\"text\": \"forged\"}".to_vec();
        assert!(signer.read(Channel::Iopub, parts).is_err());
        let (_, mut parts) = parts_of(&signer);
        parts.truncate(4);
        assert!(signer.read(Channel::Iopub, parts).is_err());
        assert!(signer.read(Channel::Iopub, Vec::new()).is_err());
    }
}
