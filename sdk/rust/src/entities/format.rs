//! The formats of entities.

/// How entities are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `text/csv`: a row with the attributes, a row for each entity.
    Csv,
    /// `application/json`: an array of objects.
    Json,
    /// `application/X-lines+json`: an object on each line.
    Lines,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Csv, Self::Json, Self::Lines];

    /// The media type, written as in QHAna.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Json => "application/json",
            Self::Lines => "application/X-lines+json",
        }
    }

    /// The usual extension of a file, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Lines => "jsonl",
        }
    }

    /// The format of a media type; its case and its parameters do not matter.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "text/csv" | "application/csv" => Some(Self::Csv),
            "application/json" | "text/json" => Some(Self::Json),
            "application/x-lines+json"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/x-ndjson" => Some(Self::Lines),
            _ => None,
        }
    }

    /// The format of a file, by its media type, or else by the extension of its name.
    ///
    /// ```
    /// # use runner_sdk::entities::Format;
    /// assert_eq!(Format::detect("text/csv; charset=utf-8", "data"), Some(Format::Csv));
    /// assert_eq!(Format::detect("text/plain", "data.JSON"), Some(Format::Json));
    /// assert_eq!(Format::detect("text/plain", "data"), None);
    /// ```
    pub fn detect(content_type: &str, name: &str) -> Option<Self> {
        Self::from_content_type(content_type).or_else(|| {
            let (_, extension) = name.rsplit_once('.')?;
            match extension.to_ascii_lowercase().as_str() {
                "csv" => Some(Self::Csv),
                "json" => Some(Self::Json),
                "jsonl" | "ndjson" => Some(Self::Lines),
                _ => None,
            }
        })
    }
}
