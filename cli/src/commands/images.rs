//! `rbox images`

use clap::Args;
use rbox_container::{Engine, Error, ImageOrder, ImageQuery, ImageSummary};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::format::Format;
use crate::output;

const COLUMNS: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const COLUMNS_WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const HEADINGS: [(&str, &str); 2] = [("ID", "IMAGE ID"), ("CreatedSince", "CREATED")];

#[derive(Debug, Args)]
pub(crate) struct Images {
    /// All of them, as without this: none are hidden
    #[arg(short, long)]
    #[allow(dead_code, reason = "there is nothing that is left out without it")]
    all: bool,

    /// Ids alone
    #[arg(short, long)]
    quiet: bool,

    /// The digests under which the registry has them, too
    #[arg(long)]
    digests: bool,

    /// Whole ids
    #[arg(long)]
    no_trunc: bool,

    /// No line above the columns
    #[arg(short, long)]
    noheading: bool,

    /// Only those that are so: before=IMAGE, dangling=BOOL, id=ID, label=KEY[=VALUE], reference=PATTERN,
    /// since=IMAGE, until=TIME
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// By what they are ordered: created, id, repository, size or tag
    #[arg(long, value_name = "FIELD", default_value = "created", value_parser = parse_order)]
    sort: ImageOrder,

    /// How to print: table, json, or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// Only images of this name, which may have a tag, and * and ? for what may stand there
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Images {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let mut query = ImageQuery::default();
        query.order = self.sort;
        for filter in &self.filter {
            query.add(filter).map_err(Error::from)?;
        }
        if let Some(name) = &self.name {
            query.add_reference(name).map_err(Error::from)?;
        }
        let images = engine.list_images(&query)?;
        if self.quiet {
            return Ok(output::lines(images.iter().map(|image| self.id(image)))?);
        }
        let rows: Vec<Value> = images.iter().map(|image| self.row(image)).collect();
        let columns = if self.digests { COLUMNS_WITH_DIGESTS } else { COLUMNS };
        let documents = || images.iter().map(document).collect();
        self.format.print(columns, &HEADINGS, !self.noheading, &rows, documents)
    }

    fn id(&self, image: &ImageSummary) -> String {
        if self.no_trunc { image.id.to_string() } else { image.id.short() }
    }

    /// What a template is given.
    fn row(&self, image: &ImageSummary) -> Value {
        let created = image.created.map(output::ago).unwrap_or_default();
        json!({
            "ID": self.id(image),
            "Repository": image.reference.name(),
            "Tag": image.reference.tag().unwrap_or("<none>"),
            "Digest": image.digest,
            "Names": [image.reference],
            "Platform": image.platform.to_string(),
            "Created": created,
            "CreatedSince": created,
            "CreatedAt": image.created.map(output::at).unwrap_or_default(),
            "Size": output::size(image.size.unwrap_or(image.packed_size)),
            "PackedSize": output::size(image.packed_size),
            "Labels": image.labels,
        })
    }
}

fn parse_order(text: &str) -> Result<ImageOrder, &'static str> {
    Ok(match text {
        "created" => ImageOrder::Created,
        "id" => ImageOrder::Id,
        "repository" => ImageOrder::Repository,
        "size" => ImageOrder::Size,
        "tag" => ImageOrder::Tag,
        _ => return Err("expected created, id, repository, size or tag"),
    })
}

fn document(image: &ImageSummary) -> Value {
    json!({
        "Id": image.id,
        "Names": [image.reference],
        "Repository": image.reference.name(),
        "Tag": image.reference.tag(),
        "Digest": image.digest,
        "Platform": image.platform.to_string(),
        "Created": image.created,
        "Size": image.size,
        "PackedSize": image.packed_size,
        "Labels": image.labels,
    })
}
