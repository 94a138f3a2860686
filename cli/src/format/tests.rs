//! What people type, and what comes of it. Where no note says otherwise, Go's text/template with the functions of Docker's
//! and Podman's command lines makes the same of it.

use serde_json::{Value, json};

use super::*;

fn data() -> Value {
    json!({
        "ID": "4c01db0b339c",
        "Names": "box",
        "Pid": 4711,
        "Size": 1.5,
        "Running": true,
        "Nothing": null,
        "Empty": [],
        "Command": ["sh", "-c", "echo"],
        "Labels": { "com.example.tier": "web", "a": "<b>" },
        "State": { "Pid": 4711, "Status": "running", "Health": { "Status": "good" } },
        "Mounts": [
            { "Source": "/a", "Destination": "/x", "RW": true },
            { "Source": "/b", "Destination": "/y", "RW": false },
        ],
    })
}

fn made(template: &str) -> Result<String> {
    template.parse::<Template>()?.text(&data())
}

#[track_caller]
fn all_make(cases: &[(&str, &str)]) {
    for (template, text) in cases {
        assert_eq!(made(template).as_deref(), Ok(*text), "{template}");
    }
}

/// Each is an error that has these words.
#[track_caller]
fn all_fail(cases: &[(&str, &str)]) {
    for (template, words) in cases {
        let error = made(template).expect_err(template).to_string();
        assert!(error.contains(words), "{template}: {error}");
    }
}

#[test]
fn fields_and_texts() {
    all_make(&[
        ("", ""),
        ("plain } text", "plain } text"),
        ("{{.Names}}", "box"),
        ("{{ .ID }}: {{.State.Health.Status}}", "4c01db0b339c: good"),
        ("{{.Pid}} {{.Size}} {{.Running}}", "4711 1.5 true"),
        ("{{.Command}} {{.State}}", "[sh -c echo] map[Health:map[Status:good] Pid:4711 Status:running]"),
        ("{{.Nothing}} {{.Labels.missing}} {{.Nothing.More}}", "<no value> <no value> <no value>"),
        ("{{$.Names}}{{$}}", &format!("box{}", made("{{.}}").expect("valid"))),
        ("{{(index .Mounts 1).Source}}", "/b"),
        (r#"{{"a\tb\"c"}}{{`raw\t"`}}{{12}}{{-3}}{{0.5}}{{2.0}}{{true}}"#, "a\tb\"craw\\t\"12-30.52true"),
        (r"{{.ID}}\t{{.Names}}\n", "4c01db0b339c\tbox\n"),
        ("{{/* nothing */}}a{{- /* more */ -}} b", "ab"),
        ("a  {{- .Names -}}  b", "aboxb"),
        ("a\n{{- .Names}}\nb {{.Names -}}\n c", "abox\nb boxc"),
        // As in Go, a minus at a digit is a number's.
        ("{{-3}}", "-3"),
        ("{{.Label \"com.example.tier\"}}{{.Label \"missing\"}}", "web"),
    ]);
    all_fail(&[
        ("{{.Nmaes}}", "there is no field .Nmaes; there are: .Command .Empty .ID .Labels"),
        ("{{.State.Nope}}", ".State has no field .Nope; it has: .Health .Pid .Status"),
        ("{{.Names.First}}", ".Names is a text, which has no field .First"),
        ("{{range .Mounts}}{{.Type}}{{end}}", "no field .Type; there are: .Destination .RW .Source"),
        ("{{$x}}", "no variable $x"),
        ("{{.Names 1}}", ".Names is a field, and can be given no arguments"),
        ("{{.Names", "an action has no end"),
        ("{{}}", "a value is missing"),
        ("{{\"a}}", "a text has no end"),
        ("{{\"\\d\"}}", "\\d means nothing"),
        ("{{.A!}}", "'!' means nothing"),
        ("{{1x}}", "\"1x\" is not a number"),
        ("{{/* a }}", "a comment has no end"),
        ("{{.5}}", "write 0.5"),
        ("{{(.ID}}", "a ( without its )"),
        ("{{.ID)}}", "a ) without its ("),
    ]);
}

#[test]
fn blocks() {
    all_make(&[
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Empty}}a{{else if .Nothing}}b{{else if eq .Pid 4711}}c{{else}}d{{end}}", "c"),
        ("{{if not .Running}}a{{end}}", ""),
        ("{{with .State.Health}}{{.Status}} {{$.Names}}{{end}}", "good box"),
        ("{{with .Nothing}}{{.}}{{else}}none{{end}}", "none"),
        ("{{with .Nothing}}a{{else with .Names}}{{.}}{{end}}", "box"),
        ("{{with $n := .Names}}{{$n}}{{end}}", "box"),
        ("{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", "/a:/x /b:/y "),
        ("{{range .Empty}}x{{else}}none{{end}}{{range .Nothing}}x{{else}}none{{end}}", "nonenone"),
        ("{{range $i, $e := .Command}}{{$i}}={{$e}} {{end}}", "0=sh 1=-c 2=echo "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}},{{end}}", "a=<b>,com.example.tier=web,"),
        ("{{range $e := .Command}}{{if eq $e \"-c\"}}{{continue}}{{end}}{{$e}};{{end}}", "sh;echo;"),
        ("{{range .Command}}{{.}}{{if eq . \"-c\"}}{{break}}{{end}},{{end}}", "sh,-c"),
        ("{{range .Mounts}}{{range $k, $v := .}}{{$k}} {{end}}{{end}}", "Destination RW Source Destination RW Source "),
        ("{{$n := len .Mounts}}{{$n}} {{$n = 7}}{{$n}}", "2 7"),
        ("{{$last := \"\"}}{{range .Command}}{{$last = .}}{{end}}{{$last}}", "echo"),
    ]);
    all_fail(&[
        ("{{if .Running}}", "\"if\" without its {{end}}"),
        ("{{end}}", "without an if, with or range"),
        ("{{else}}", "without an if, with or range"),
        ("{{if .ID}}{{else}}{{else}}{{end}}", "is not {{end}}"),
        ("{{if .ID}}{{else nonsense}}{{end}}", "words that mean nothing"),
        ("{{range .Names}}{{end}}", "not over a text"),
        ("{{break}}", "outside of a range"),
        ("{{if .ID}}{{$a := 1}}{{end}}{{$a}}", "no variable $a"),
        ("{{range $a, $b}}{{end}}", "a := must follow"),
        ("{{template \"x\"}}", "\"template\" is not there"),
        ("{{define \"x\"}}", "\"define\" is not there"),
    ]);
}

#[test]
fn functions_and_pipelines() {
    all_make(&[
        ("{{json .State}}", r#"{"Pid":4711,"Status":"running","Health":{"Status":"good"}}"#),
        ("{{json .Labels}}", r#"{"com.example.tier":"web","a":"<b>"}"#),
        ("{{.Command | json}}", r#"["sh","-c","echo"]"#),
        ("{{.Nothing | json}}", "null"),
        (r#"{{index .Labels "com.example.tier"}}|{{index .Labels "missing"}}|{{index .Command 1}}"#, "web||-c"),
        (r#"{{index .Mounts 1 "Source"}}"#, "/b"),
        ("{{len .Mounts}} {{len .Names}} {{len .Labels}}", "2 3 2"),
        (r#"{{join .Command " "}} {{join (split "a,b" ",") "+"}}"#, "sh -c echo a+b"),
        (r#"{{.Names | upper | printf "%5s|"}}{{lower "ÄB"}}{{title "a small-box it's"}}"#, "  BOX|äbA Small-Box It'S"),
        (r#"{{print 1 2 "a" 3}}{{print}} {{println .Names 1}}"#, "1 2a3 box 1\n"),
        (
            r#"{{slice .ID 0 4}} {{slice .Command 1}} {{truncate .ID 3}} {{pad .Names 1 2}}|"#,
            "4c01 [-c echo] 4c0  box  |",
        ),
        (r#"{{replace .Names "b" "f"}}"#, "fox"),
        ("{{eq .Pid 4711}}{{eq .Names \"a\" \"box\"}}{{ne .Names \"a\"}}", "truetruetrue"),
        ("{{lt 1 2}}{{le 2 2}}{{gt 1 2}}{{ge 1.5 .Size}}{{lt \"a\" \"b\"}}", "truetruefalsetruetrue"),
        ("{{eq .Nothing nil}}{{eq .Names nil}}", "truefalse"),
        ("{{and .Running .Names}} {{or .Nothing \"b\"}} {{and .Nothing .Names.Wrong}}", "box b <no value>"),
        ("{{if and .Running (gt .Pid 1)}}yes{{end}}", "yes"),
    ]);
    all_fail(&[
        ("{{nope .ID}}", "there is no function \"nope\"; there are: and eq ge"),
        ("{{html .ID}}", "there is no function \"html\""),
        ("{{json}}", "json takes 1 value, and is given 0"),
        ("{{upper .Pid}}", "upper wants a text, and not a number"),
        ("{{join .Names \",\"}}", "join wants a list, and not a text"),
        ("{{index .Command 3}}", "index 3 of a list of 3 elements"),
        ("{{index .Command -1}}", "index -1 of a list"),
        ("{{slice \"äö\" 1 2}}", "slice 1 to 2 of 4"),
        ("{{eq .Pid \"4711\"}}", "eq cannot compare the number 4711 with the text \"4711\""),
        ("{{lt .Running true}}", "lt cannot compare"),
        ("{{pad \"a\" 1000000000 0}}", "at most"),
        ("{{.Names | 1}}", "only a function can follow |"),
        ("{{or}}", "or is given nothing"),
        ("{{1 2}}", "only a function can be given arguments"),
    ]);
}

#[test]
fn printed_by_verbs() {
    all_make(&[
        (r#"{{printf "%s %v %d%%" .Names .Command .Pid}}"#, "box [sh -c echo] 4711%"),
        (r#"{{printf "%-6s|%6s|%06d|%+d" .Names .Names .Pid 5}}"#, "box   |   box|004711|+5"),
        (r#"{{printf "%q %t %x %X %o %b %c" .Names .Running 255 255 8 5 97}}"#, r#""box" true ff FF 10 101 a"#),
        (r#"{{printf "%.2f %5.1f %e %g %x" .Size 2.25 12345.678 .Size "ab"}}"#, "1.50   2.2 1.234568e+04 1.5 6162"),
        (r#"{{printf "%.2s %-5d| %05d" "abc" 7 -7}}"#, "ab 7    | -0007"),
    ]);
    all_fail(&[
        (r#"{{printf "%d" .Names}}"#, "printf %d wants a whole number, and not the text \"box\""),
        (r#"{{printf "%d"}}"#, "wants more values"),
        (r#"{{printf "a" 1}}"#, "too many values"),
        (r#"{{printf "%z" 1}}"#, "no verb %z"),
        (r#"{{printf "%99999d" 1}}"#, "4096 at most"),
        (r#"{{printf "%"}}"#, "has no verb behind it"),
    ]);
}

#[test]
fn headings() {
    let heading = |template: &str| {
        template.parse::<Template>().expect(template).heading(&[("ID", "CONTAINER ID"), ("RunningFor", "CREATED")])
    };
    for (template, expected) in [
        (r"{{.ID}}\t{{.Names}}", "CONTAINER ID\tNAMES"),
        ("{{.RunningFor}} {{.CreatedAt}}", "CREATED CREATED AT"),
        (r#"{{.Names | upper}}\t{{json .State.Pid}}\t{{printf "%5s" .Image}}"#, "NAMES\tPID\tIMAGE"),
        (r#"{{.Label "com.example.my-tier"}}\t{{.ImageID}}"#, "my tier\tIMAGE ID"),
        ("{{if .Running}}{{.Pid}}{{else}}-{{end}}", "PID"),
        ("{{range .Mounts}}{{.Source}}{{end}}", "SOURCE"),
        ("{{range .Mounts}}{{.}} {{end}}", "MOUNTS"),
        (r#"{{join (split .Names ",") " "}}"#, "NAMES"),
        ("{{$x := 1}}{{len .Mounts}}", "MOUNTS"),
    ] {
        assert_eq!(heading(template), expected, "{template}");
    }
}

#[test]
fn formats() {
    let format = |text: &str| text.parse::<Format>();
    assert!(matches!(format("table"), Ok(Format::Table)));
    assert!(matches!(format("json"), Ok(Format::Json)));
    assert!(matches!(format("table {{.ID}}"), Ok(Format::Columns(_))));
    assert!(matches!(format(r"table\t{{.ID}}"), Ok(Format::Columns(_))));
    assert!(matches!(format("{{.ID}}"), Ok(Format::Each(_))));
    assert!(format("yaml").expect_err("a word").to_string().contains("neither \"table\" nor \"json\""));
    assert!(format("").is_err());
}

#[test]
fn nesting_has_an_end() {
    for (open, close) in [("{{if .ID}}", "{{end}}"), ("{{range .Command}}", "{{end}}")] {
        assert!(made(&format!("{}{}", open.repeat(100_000), close.repeat(100_000))).is_err());
    }
    assert!(made(&format!("{{{{{}1{}}}}}", "(".repeat(100_000), ")".repeat(100_000))).is_err());
    // 60 in each other are fine, and a hundred behind each other.
    assert_eq!(made(&format!("{{{{{}1{}}}}}", "(".repeat(60), ")".repeat(60))).as_deref(), Ok("1"));
    assert_eq!(made(&"{{if .ID}}a{{end}}".repeat(100)), Ok("a".repeat(100)));
}

// A template and a document; whatever becomes of the two, there is a text or an error.
rbox_fuzz::target!(
    format_template,
    rbox_fuzz::Shape::Bytes,
    [
        format!("{{{{range $k, $v := .Labels}}}}{{{{$k}}}}={{{{$v}}}},{{{{else}}}}none{{{{end}}}}\u{1}{}", data()),
        format!(
            "{{{{if and .Running (gt .Pid 1)}}}}{{{{printf \"%-10.3s|%05d\" .Names .Pid}}}}{{{{end}}}}\u{1}{}",
            data()
        ),
        format!("table {{{{.ID}}}}\\t{{{{join .Command \" \" | upper}}}}{{{{slice .ID 1 4}}}}\u{1}{}", data()),
        format!("{{{{- with .State}}}}{{{{json .}}}} {{{{index $.Mounts 0 \"Source\"}}}}{{{{end -}}}}\u{1}{}", data()),
    ],
    |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let (template, document) = text.split_once('\u{1}').unwrap_or((&text, ""));
        let document = serde_json::from_str(document).unwrap_or_else(|_| data());
        if let Ok(Format::Columns(template) | Format::Each(template)) = template.parse::<Format>() {
            let _ = template.text(&document);
            let _ = template.heading(&[("ID", "CONTAINER ID")]);
        }
    }
);
