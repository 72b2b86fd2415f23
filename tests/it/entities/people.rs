//! Rows of those who come in, and of what a tenant decides about it.

use sea_orm::DatabaseConnection;
use serde_json::json;

use musubi::actor::Role;
use musubi::crypto::Sealed;
use musubi::entity::{
    api_key, cross_site_activity, hand_over, invitation, linked_account, membership_removal,
    registered_document, session, sign_in_link, site, user_profile,
};
use musubi::ids::{
    ApiKeyId, CrossSiteActivityId, HandOverId, InvitationId, LinkedAccountId, ProfileId, SessionId,
    SignInLinkId, SiteId, TenantId, TypedId, UserId,
};

use super::rows::{now, same};

pub(super) async fn the_ways_in(db: &DatabaseConnection, tenant: TenantId, user: UserId) {
    for provider in linked_account::Provider::ALL {
        let row = linked_account::Model {
            id: LinkedAccountId::new(),
            user_id: user,
            r#type: "oauth".into(),
            provider: *provider,
            provider_account_id: "42".into(),
            scope: None,
            created_at: now(),
            last_used_at: now(),
        };
        same(db, row).await;
    }
    let ends = session::EndReason::ALL;
    for (way, reason) in session::SignInWay::ALL.iter().zip(ends) {
        let row = session::Model {
            id: SessionId::new(),
            user_id: user,
            tenant_id: Some(tenant),
            salt: vec![7; 32],
            generation: 3,
            rotated_at: now(),
            device: "Firefox · Linux".into(),
            way: *way,
            created_at: now(),
            last_used_at: now(),
            expires_at: now(),
            confined_to: Some(tenant),
            parent_id: Some(SessionId::new()),
            ended_at: Some(now()),
            end_reason: Some(*reason),
        };
        same(db, row.clone()).await;
        let handed = hand_over::Model {
            id: HandOverId::new(),
            code_hash: row.id.uuid().as_bytes().to_vec(),
            user_id: user,
            session_id: row.id,
            from_domain: "a.test".into(),
            to_domain: "b.test".into(),
            to_origin: "https://b.test".into(),
            challenge: Some("x".repeat(43)),
            tenant_id: tenant,
            created_at: now(),
            expires_at: now(),
            used_at: None,
        };
        same(db, handed).await;
    }
    the_links(db, tenant, user).await;
}

async fn the_links(db: &DatabaseConnection, tenant: TenantId, user: UserId) {
    let link = sign_in_link::Model {
        id: SignInLinkId::new(),
        token_hash: vec![1, 2],
        email: Sealed(vec![9]),
        email_index: vec![3],
        return_to: Some("https://a.test/".into()),
        tenant_id: None,
        created_at: now(),
        expires_at: now(),
        used_at: Some(now()),
    };
    same(db, link).await;
    let crossing = cross_site_activity::Model {
        id: CrossSiteActivityId::new(),
        tenant_id: tenant,
        user_id: user,
        session_id: SessionId::new(),
        from_domain: "a.test".into(),
        to_domain: "b.test".into(),
        created_at: now(),
    };
    same(db, crossing).await;
}

pub(super) async fn the_sites(db: &DatabaseConnection, tenant: TenantId, user: UserId) {
    for character in site::Character::ALL {
        let row = site::Model {
            id: SiteId::new(),
            tenant_id: tenant,
            character: *character,
            name: "猫空あおば".into(),
            domain: format!("{character}.test"),
            origins: json!(["https://a.test"]),
            version: 1,
            created_at: now(),
            updated_at: now(),
        };
        same(db, row).await;
    }
    for role in Role::ALL {
        let id = InvitationId::new();
        let row = invitation::Model {
            id,
            tenant_id: tenant,
            email: Sealed(vec![5]),
            email_index: id.uuid().as_bytes().to_vec(),
            role: *role,
            token_hash: id.uuid().as_bytes().to_vec(),
            invited_by: user,
            created_at: now(),
            expires_at: now(),
            accepted_at: None,
            accepted_by: None,
            revoked_at: None,
        };
        same(db, row).await;
    }
    let removal = membership_removal::Model {
        tenant_id: tenant,
        user_id: user,
        removed_at: now(),
        removed_by: user,
    };
    same(db, removal).await;
    the_keys(db, tenant, user).await;
}

async fn the_keys(db: &DatabaseConnection, tenant: TenantId, user: UserId) {
    let key = api_key::Model {
        id: ApiKeyId::new(),
        tenant_id: tenant,
        name: "予約サーバー".into(),
        prefix: "musubi_aaaaaaaaaa".into(),
        key_hash: vec![8],
        permissions: json!(["AI_EXECUTE"]),
        created_by: user,
        created_at: now(),
        expires_at: Some(now()),
        last_used_at: None,
        revoked_at: None,
    };
    same(db, key).await;
    let document = registered_document::Model {
        id: "ab".repeat(32),
        document: "{ viewer { role } }".into(),
        registered_at: now(),
    };
    same(db, document).await;
    for tier in user_profile::SubscriptionTier::ALL {
        let owner = super::rows::a_user(db, tenant).await;
        let row = user_profile::Model {
            id: ProfileId::new(),
            user_id: owner,
            display_name: Some("花".into()),
            bio: None,
            website_url: None,
            twitter_handle: None,
            discord_id: None,
            preferred_character: site::Character::Both,
            subscription_tier: *tier,
            total_spent: 500,
            last_activity: Some(now()),
            marketing_consent: true,
            version: 1,
            created_at: now(),
            updated_at: now(),
        };
        same(db, row).await;
    }
}
