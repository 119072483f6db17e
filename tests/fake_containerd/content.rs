//! Content, leases and their garbage, layers, and the filters of lists.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use containerd_client::Client;
use containerd_client::services::v1 as api;
use tonic::{Code, Status};

use crate::fake_containerd::{FakeImage, World};
use crate::*;

async fn write(client: &Client, requests: Vec<api::WriteContentRequest>) -> Result<String, Status> {
    let requests = tonic::codegen::tokio_stream::iter(requests);
    let mut replies = client.content().write(leased("l1", requests)).await?.into_inner();
    let mut digest = String::new();
    while let Some(reply) = replies.message().await? {
        digest = reply.digest;
    }
    Ok(digest)
}

fn chunk(action: api::WriteAction, offset: i64, data: &[u8]) -> api::WriteContentRequest {
    api::WriteContentRequest {
        action: action.into(),
        r#ref: "r1".into(),
        offset,
        data: data.to_vec(),
        ..api::WriteContentRequest::default()
    }
}

#[tokio::test]
async fn content_is_written_checked_leased_and_collected_with_its_lease() {
    let (fake, client) = start().await;
    fake.install(NS, &FakeImage::default());
    let lease = api::CreateRequest {
        id: "l1".into(),
        ..api::CreateRequest::default()
    };
    client.leases().create(of(lease)).await.unwrap();
    let expects = |digest: &str, mut request: api::WriteContentRequest| {
        request.expected = digest.into();
        request
    };
    use api::WriteAction::{Commit, Write};
    let wrong = format!("sha256:{}", "0".repeat(64));
    let mismatch = vec![chunk(Write, 0, b"hel"), expects(&wrong, chunk(Commit, 3, b""))];
    assert_eq!(code(write(&client, mismatch).await), Code::FailedPrecondition);
    assert_eq!(fake.world().ingests, ["test/r1"]);
    assert_eq!(
        code(write(&client, vec![chunk(Write, 9, b"x")]).await),
        Code::OutOfRange
    );
    let hello = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let rest = vec![chunk(Write, 3, b"lo"), expects(hello, chunk(Commit, 5, b""))];
    assert_eq!(write(&client, rest).await.unwrap(), hello);
    let again = vec![expects(hello, chunk(Write, 0, b"hello"))];
    assert_eq!(code(write(&client, again).await), Code::AlreadyExists);

    client
        .snapshots()
        .prepare(leased("l1", prepare("c1", "")))
        .await
        .unwrap();
    let resources = api::ListResourcesRequest { id: "l1".into() };
    let resources = client
        .leases()
        .list_resources(of(resources))
        .await
        .unwrap()
        .into_inner()
        .resources;
    let held: Vec<_> = resources
        .iter()
        .map(|r| (r.r#type.as_str(), r.id.as_str()))
        .collect();
    assert_eq!(held, [("content", hello), ("snapshots/overlayfs", "c1")]);

    let info = || of(api::InfoRequest { digest: hello.into() });
    client.content().info(info()).await.unwrap();
    let delete = api::DeleteRequest {
        id: "l1".into(),
        sync: true,
    };
    client.leases().delete(of(delete)).await.unwrap();
    assert_eq!(code(client.content().info(info()).await), Code::NotFound);
    assert_eq!(fake.world(), World::default());
    let list = api::ListContentRequest::default();
    let mut list = client.content().list(of(list)).await.unwrap().into_inner();
    let left = list.message().await.unwrap().unwrap().info.len();
    assert_eq!(left, 3, "what the image leads to stays");
    fake.close().await;
}

#[tokio::test]
async fn a_layer_is_unpacked_where_the_mounts_point() {
    let (fake, client) = start().await;
    fake.install(NS, &FakeImage::default());
    let list = api::ListContentRequest::default();
    let mut list = client.content().list(of(list)).await.unwrap().into_inner();
    let content = list.message().await.unwrap().unwrap().info;
    let layer = content.iter().find(|info| info.labels.is_empty()).unwrap();
    let mounts = client
        .snapshots()
        .prepare(of(prepare("unpacking", "")))
        .await
        .unwrap()
        .into_inner()
        .mounts;
    let apply = api::ApplyRequest {
        diff: Some(containerd_client::types::Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            digest: layer.digest.clone(),
            ..Default::default()
        }),
        mounts: mounts.clone(),
        ..api::ApplyRequest::default()
    };
    let applied = client
        .diff()
        .apply(of(apply))
        .await
        .unwrap()
        .into_inner()
        .applied
        .unwrap();
    assert_eq!(applied.digest, layer.digest);
    let mut passwd = String::new();
    let file = Path::new(&mounts[0].source).join("etc/passwd");
    File::open(file).unwrap().read_to_string(&mut passwd).unwrap();
    assert!(passwd.contains("worker:x:1234:1234"));
    fake.close().await;
}

#[tokio::test]
async fn lists_keep_to_their_filters() {
    let (fake, client) = start().await;
    for (id, owner) in [("c1", "me"), ("c2", "you"), ("d3", "me")] {
        let mut request = record(id);
        let container = request.container.as_mut().unwrap();
        container.labels.insert("fn-agent/owner".into(), owner.into());
        client.containers().create(of(request)).await.unwrap();
    }
    let cases: [(&[&str], &[&str]); 6] = [
        (&[], &["c1", "c2", "d3"]),
        (&["labels.\"fn-agent/owner\"==me"], &["c1", "d3"]),
        (&["labels.\"fn-agent/owner\"==me,id!=c1"], &["d3"]),
        (&["id==c2", "id==d3"], &["c2", "d3"]),
        (&["id~=|^c|"], &["c1", "c2"]),
        (&["labels.absent"], &[]),
    ];
    for (filters, expected) in cases {
        let list = api::ListContainersRequest {
            filters: filters.iter().map(ToString::to_string).collect(),
        };
        let found = client
            .containers()
            .list(of(list))
            .await
            .unwrap()
            .into_inner()
            .containers;
        let found: Vec<_> = found.iter().map(|container| container.id.as_str()).collect();
        assert_eq!(found, expected, "{filters:?}");
    }
    let list = api::ListContainersRequest {
        filters: vec!["id=c1".into()],
    };
    assert_eq!(
        code(client.containers().list(of(list)).await),
        Code::InvalidArgument
    );
    fake.close().await;
}
