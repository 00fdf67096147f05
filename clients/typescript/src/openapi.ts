// Written by `npm run types` from ../openapi.json, the OpenAPI document of the server.

export interface paths {
    "/v1/chat/completions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Create Chat Completion
         * @description OpenAI Chat Completions with `preferences`.
         */
        post: operations["create_chat_completion_v1_chat_completions_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/models": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Models
         * @description List the served models, and each with the caller's profiles if the operator wants them listed.
         */
        get: operations["list_models_v1_models_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/models/{model}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Model
         * @description One served model; `model@profile` is there if the profile is.
         */
        get: operations["get_model_v1_models__model__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/tokenize": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Tokenize
         * @description Return the token ids that a request would give the model, those of its Meta-Prompt included.
         */
        post: operations["tokenize_tokenize_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/detokenize": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Detokenize
         * @description Return the text of token ids.
         */
        post: operations["detokenize_detokenize_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/align": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Align
         * @description Answer one query under preferences: `{"text", "metaalign", "usage"}`.
         */
        post: operations["align_v1_align_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/preferences/render": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Render Preferences
         * @description Dry run: return the tiers, the prompt and its token ids, without generating.
         */
        post: operations["render_preferences_v1_preferences_render_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/profiles": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Profiles
         * @description List profiles by name.
         */
        get: operations["list_profiles_v1_profiles_get"];
        put?: never;
        /**
         * Create Profile
         * @description Create a profile with its first version.
         */
        post: operations["create_profile_v1_profiles_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/profiles:export": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Export Profiles
         * @description Export all profiles with all versions and labels, as one document for `:import`.
         */
        get: operations["export_profiles_v1_profiles_export_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/profiles:import": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Import Profiles
         * @description Import a document from `:export`, all or nothing; existing content is kept.
         */
        post: operations["import_profiles_v1_profiles_import_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/profiles/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Profile
         * @description Get one profile; its ETag is for `If-Match`.
         */
        get: operations["get_profile_v1_profiles__name__get"];
        put?: never;
        post?: never;
        /**
         * Delete Profile
         * @description Delete a profile with all versions and labels; its version numbers are not reused.
         */
        delete: operations["delete_profile_v1_profiles__name__delete"];
        options?: never;
        head?: never;
        /**
         * Change Profile
         * @description Archive or restore a profile, set what it learns, or share it. Requests do not find an archived profile.
         */
        patch: operations["change_profile_v1_profiles__name__patch"];
        trace?: never;
    };
    "/v1/profiles/{name}/versions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Versions
         * @description List versions, newest first.
         */
        get: operations["list_versions_v1_profiles__name__versions_get"];
        put?: never;
        /**
         * Create Version
         * @description Add the next version; labels do not move.
         */
        post: operations["create_version_v1_profiles__name__versions_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/profiles/{name}/versions/{number}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Version
         * @description Get one version.
         */
        get: operations["get_version_v1_profiles__name__versions__number__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/profiles/{name}/diff": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Diff Versions
         * @description Get the changes from one version to another.
         */
        get: operations["diff_versions_v1_profiles__name__diff_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/profiles/{name}/labels/{label}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Move Label
         * @description Point a label at a version, or at several by weight; a protected label requires the scope `admin`.
         */
        put: operations["move_label_v1_profiles__name__labels__label__put"];
        post?: never;
        /**
         * Delete Label
         * @description Delete a label.
         */
        delete: operations["delete_label_v1_profiles__name__labels__label__delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/profiles/{name}/labels/{label}/rollback": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Roll Back Label
         * @description Point a label back at its targets from before its last move.
         */
        post: operations["roll_back_label_v1_profiles__name__labels__label__rollback_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/feedback": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Give Feedback
         * @description Give feedback on an answer; later feedback replaces earlier feedback.
         */
        post: operations["give_feedback_v1_feedback_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/feedback/erase": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Erase User
         * @description Delete everything stored about a user of the caller's tenant; return what was deleted.
         */
        post: operations["erase_user_v1_feedback_erase_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/admin/tenants": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Tenants
         * @description List tenants by name.
         */
        get: operations["list_tenants_v1_admin_tenants_get"];
        put?: never;
        /**
         * Create Tenant
         * @description Create a tenant.
         */
        post: operations["create_tenant_v1_admin_tenants_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/admin/tenants/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Tenant
         * @description Get one tenant.
         */
        get: operations["get_tenant_v1_admin_tenants__name__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Change Tenant
         * @description Change the fields in the body; `policy` and `limits` are replaced as a whole, and null removes them.
         */
        patch: operations["change_tenant_v1_admin_tenants__name__patch"];
        trace?: never;
    };
    "/v1/admin/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Keys
         * @description List keys by id, including revoked and expired ones.
         */
        get: operations["list_keys_v1_admin_keys_get"];
        put?: never;
        /**
         * Create Key
         * @description Create a key; it is shown in this response and never again.
         */
        post: operations["create_key_v1_admin_keys_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/admin/keys/{key_id}/revoke": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Revoke Key
         * @description Revoke a key; other servers apply the change within METAALIGN_REFRESH_SECONDS.
         */
        post: operations["revoke_key_v1_admin_keys__key_id__revoke_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/admin/keys/{key_id}/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Rotate Key
         * @description Create a key with the settings of an old one; the old key expires after `grace_seconds`.
         */
        post: operations["rotate_key_v1_admin_keys__key_id__rotate_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/admin/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Audit
         * @description List who changed what and when, newest first.
         */
        get: operations["list_audit_v1_admin_audit_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/admin/users/erase": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Erase User
         * @description Delete everything stored about a user of any tenant; return what was deleted.
         */
        post: operations["erase_user_v1_admin_users_erase_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/version": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Version
         * @description Versions of this server, of vLLM, and of the checkpoint's template.
         */
        get: operations["version_version_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Readyz
         * @description 200 if the server accepts new work; 503 while it drains or after the engine has failed.
         */
        get: operations["readyz_readyz_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** AdminErase */
        AdminErase: {
            /** Tenant */
            tenant: string;
            /**
             * User
             * @description the id that requests sent as `user`
             */
            user: string;
        };
        /**
         * AlignAnswer
         * @description The answer of `/v1/align`; `metaalign` is null without preferences.
         */
        AlignAnswer: {
            /** Id */
            id: string;
            /** Model */
            model: string;
            /** Text */
            text: string;
            /** Finish Reason */
            finish_reason: string | null;
            metaalign: components["schemas"]["Receipt"] | null;
            /** Usage */
            usage: {
                [key: string]: unknown;
            };
        };
        /**
         * AlignRequest
         * @description The short form: one query, its preferences, a few sampling parameters.
         */
        AlignRequest: {
            /**
             * Preferences
             * @description Preferences of provider (`system`) and user (`user`); a bare string is `system`.
             */
            preferences?: string | {
                /**
                 * Version
                 * @default 1
                 * @constant
                 */
                version?: "1";
                /**
                 * Profile
                 * @description stored profiles; later ones win
                 * @default []
                 */
                profile?: string | string[];
                system?: string | {
                    /** Info */
                    info?: string | null;
                    /**
                     * Attributes
                     * @description dimension -> value
                     */
                    attributes?: {
                        [key: string]: string;
                    };
                    /**
                     * Priorities
                     * @description most important first
                     * @default []
                     */
                    priorities?: string[];
                    /**
                     * Locked
                     * @description dimensions that no later layer may change
                     * @default []
                     */
                    locked?: string[];
                    /** @description what `strength` may be in later layers */
                    strength_bounds?: {
                        /** System */
                        system?: [
                            number,
                            number
                        ] | null;
                        /** User */
                        user?: [
                            number,
                            number
                        ] | null;
                    } | null;
                } | null;
                user?: string | {
                    /** Info */
                    info?: string | null;
                    /**
                     * Attributes
                     * @description dimension -> value
                     */
                    attributes?: {
                        [key: string]: string;
                    };
                    /**
                     * Examples
                     * @default []
                     */
                    examples?: {
                        /** Query */
                        query: string;
                        /** Preferred */
                        preferred?: string | null;
                        /** Rejected */
                        rejected?: string | null;
                    }[];
                } | null;
                /**
                 * Verify
                 * @description checks of the answer, reported in the receipt; true: those that its dimensions imply
                 */
                verify?: {
                    /** Name */
                    name: string;
                    /** Arguments */
                    arguments?: {
                        [key: string]: unknown;
                    };
                }[] | true | null;
                /** @description how strongly the tiers act; a number is for both */
                strength?: number | {
                    /** System */
                    system?: number | null;
                    /** User */
                    user?: number | null;
                } | null;
                /**
                 * Blend
                 * @description User tiers to mix; the weights sum to 1
                 * @default []
                 */
                blend?: {
                    /** Weight */
                    weight: number;
                    /** Profile */
                    profile?: string | null;
                    user?: string | {
                        /** Info */
                        info?: string | null;
                        /**
                         * Attributes
                         * @description dimension -> value
                         */
                        attributes?: {
                            [key: string]: string;
                        };
                        /**
                         * Examples
                         * @default []
                         */
                        examples?: {
                            /** Query */
                            query: string;
                            /** Preferred */
                            preferred?: string | null;
                            /** Rejected */
                            rejected?: string | null;
                        }[];
                    } | null;
                }[];
                /**
                 * Candidates
                 * @description answers to sample; the one that the preferences make likeliest is returned
                 */
                candidates?: number | null;
            } | null;
            /** Model */
            model?: string | null;
            /** User */
            user?: string | null;
            /** Query */
            query: string;
            /** Max Tokens */
            max_tokens?: number | null;
            /** Temperature */
            temperature?: number | null;
            /** Top P */
            top_p?: number | null;
            /** Seed */
            seed?: number | null;
            /** Stop */
            stop?: string | string[] | null;
            /** Store */
            store?: boolean | null;
        };
        /**
         * Annotation
         * @description A URL citation when using web search.
         */
        Annotation: {
            /**
             * Type
             * @constant
             */
            type: "url_citation";
            url_citation: components["schemas"]["openai__types__chat__chat_completion_message__AnnotationURLCitation"];
        };
        /**
         * Audio
         * @description Data about a previous audio response from the model.
         *     [Learn more](https://developers.openai.com/api/docs/guides/audio).
         */
        Audio: {
            /** Id */
            id: string;
        };
        /** AudioURL */
        AudioURL: {
            /** Url */
            url: string;
        };
        /**
         * AuditEntry
         * @description One change, with hashes of the state before and after; never the content.
         */
        AuditEntry: {
            /** Id */
            id: number;
            /**
             * At
             * Format: date-time
             */
            at: string;
            /** Tenant Id */
            tenant_id: string;
            /** Actor */
            actor: string;
            /** Action */
            action: string;
            /** Object */
            object: string;
            /** Before */
            before: string | null;
            /** After */
            after: string | null;
        };
        /**
         * AuditPage
         * @description A page of entries, newest first; for the next page, `before` is the id of the last one.
         */
        AuditPage: {
            /** Data */
            data: components["schemas"]["AuditEntry"][];
            /** Has More */
            has_more: boolean;
        };
        /** Author */
        Author: {
            role: components["schemas"]["Role"];
            /** Name */
            name?: string | null;
        };
        /**
         * BlendPart
         * @description One of the User tiers that a blend mixes: a profile's, or one that is given here.
         */
        BlendPart: {
            /** Weight */
            weight: number;
            /** Profile */
            profile?: string | null;
            user?: string | components["schemas"]["UserPreferences"] | null;
        };
        /**
         * ChangeModel
         * @description One path that differs; a side that lacks the path has null.
         */
        ChangeModel: {
            /** Path */
            path: string;
            /** From */
            from?: unknown;
            /** To */
            to?: unknown;
        };
        /**
         * ChatAnswer
         * @description The answer of `/v1/chat/completions`.
         */
        ChatAnswer: {
            /** Id */
            id: string;
            /**
             * Object
             * @default chat.completion
             * @constant
             */
            object: "chat.completion";
            /** Created */
            created: number;
            /** Model */
            model: string;
            /** Choices */
            choices: components["schemas"]["ChatCompletionResponseChoice"][];
            /** Service Tier */
            service_tier?: ("auto" | "default" | "flex" | "scale" | "priority") | null;
            /** System Fingerprint */
            system_fingerprint?: string | null;
            usage: components["schemas"]["UsageInfo"];
            /** Prompt Logprobs */
            prompt_logprobs?: ({
                [key: string]: components["schemas"]["vllm__logprobs__Logprob"];
            } | null)[] | null;
            /** Prompt Token Ids */
            prompt_token_ids?: number[] | null;
            /** Prompt Text */
            prompt_text?: string | null;
            /**
             * Kv Transfer Params
             * @description KVTransfer parameters.
             */
            kv_transfer_params?: {
                [key: string]: unknown;
            } | null;
            /**
             * Ec Transfer Params
             * @description ECTransfer parameters.
             */
            ec_transfer_params?: {
                [key: string]: unknown;
            } | null;
            metrics?: components["schemas"]["PerRequestMetrics"] | null;
            /** @description What was applied; absent without preferences. */
            metaalign?: components["schemas"]["Receipt"] | null;
        };
        /**
         * ChatCompletionAssistantMessageParam
         * @description Messages sent by the model in response to user messages.
         */
        "ChatCompletionAssistantMessageParam-Input": {
            /**
             * Role
             * @constant
             */
            role: "assistant";
            audio?: components["schemas"]["Audio"] | null;
            /** Content */
            content?: string | (components["schemas"]["ChatCompletionContentPartTextParam"] | components["schemas"]["ChatCompletionContentPartRefusalParam"])[] | null;
            function_call?: components["schemas"]["FunctionCall-Input"] | null;
            /** Name */
            name?: string;
            /** Refusal */
            refusal?: string | null;
            /** Tool Calls */
            tool_calls?: (components["schemas"]["ChatCompletionMessageFunctionToolCallParam"] | components["schemas"]["ChatCompletionMessageCustomToolCallParam"])[];
        };
        /**
         * ChatCompletionAudio
         * @description If the audio output modality is requested, this object contains data
         *     about the audio response from the model. [Learn more](https://developers.openai.com/api/docs/guides/audio).
         */
        ChatCompletionAudio: {
            /** Id */
            id: string;
            /** Data */
            data: string;
            /** Expires At */
            expires_at: number;
            /** Transcript */
            transcript: string;
        };
        /** ChatCompletionContentPartAudioEmbedsParam */
        ChatCompletionContentPartAudioEmbedsParam: {
            /** Audio Embeds */
            audio_embeds?: string | {
                [key: string]: string | ((number | components["schemas"]["LenientInteger"]) | (number | components["schemas"]["LenientNumber"]))[];
            } | null;
            /**
             * Type
             * @constant
             */
            type: "audio_embeds";
            /** Uuid */
            uuid?: string | null;
        };
        /** ChatCompletionContentPartAudioParam */
        ChatCompletionContentPartAudioParam: {
            audio_url: components["schemas"]["AudioURL"];
            /**
             * Type
             * @constant
             */
            type: "audio_url";
        };
        /** ChatCompletionContentPartImageEmbedsParam */
        ChatCompletionContentPartImageEmbedsParam: {
            /** Image Embeds */
            image_embeds?: string | {
                [key: string]: string | ((number | components["schemas"]["LenientInteger"]) | (number | components["schemas"]["LenientNumber"]))[];
            } | null;
            /**
             * Type
             * @constant
             */
            type: "image_embeds";
            /** Uuid */
            uuid?: string | null;
        };
        /**
         * ChatCompletionContentPartImageParam
         * @description Learn about [image inputs](https://developers.openai.com/api/docs/guides/images-vision).
         */
        ChatCompletionContentPartImageParam: {
            image_url: components["schemas"]["ImageURL"];
            /**
             * Type
             * @constant
             */
            type: "image_url";
            prompt_cache_breakpoint?: components["schemas"]["openai__types__chat__chat_completion_content_part_image_param__PromptCacheBreakpoint"];
        };
        /**
         * ChatCompletionContentPartInputAudioParam
         * @description Learn about [audio inputs](https://developers.openai.com/api/docs/guides/audio).
         */
        ChatCompletionContentPartInputAudioParam: {
            input_audio: components["schemas"]["InputAudio"];
            /**
             * Type
             * @constant
             */
            type: "input_audio";
            prompt_cache_breakpoint?: components["schemas"]["openai__types__chat__chat_completion_content_part_input_audio_param__PromptCacheBreakpoint"];
        };
        /** ChatCompletionContentPartPromptEmbedsParam */
        ChatCompletionContentPartPromptEmbedsParam: {
            /** Data */
            data: string;
            /**
             * Type
             * @constant
             */
            type: "prompt_embeds";
        };
        /** ChatCompletionContentPartRefusalParam */
        ChatCompletionContentPartRefusalParam: {
            /** Refusal */
            refusal: string;
            /**
             * Type
             * @constant
             */
            type: "refusal";
        };
        /**
         * ChatCompletionContentPartTextParam
         * @description Learn about [text inputs](https://developers.openai.com/api/docs/guides/text).
         */
        ChatCompletionContentPartTextParam: {
            /** Text */
            text: string;
            /**
             * Type
             * @constant
             */
            type: "text";
            prompt_cache_breakpoint?: components["schemas"]["openai__types__chat__chat_completion_content_part_text_param__PromptCacheBreakpoint"];
        };
        /** ChatCompletionContentPartVideoEmbedsParam */
        ChatCompletionContentPartVideoEmbedsParam: {
            /** Video Embeds */
            video_embeds?: string | {
                [key: string]: string | ((number | components["schemas"]["LenientInteger"]) | (number | components["schemas"]["LenientNumber"]))[];
            } | null;
            /**
             * Type
             * @constant
             */
            type: "video_embeds";
            /** Uuid */
            uuid?: string | null;
        };
        /** ChatCompletionContentPartVideoParam */
        ChatCompletionContentPartVideoParam: {
            video_url: components["schemas"]["VideoURL"];
            /**
             * Type
             * @constant
             */
            type: "video_url";
        };
        /**
         * ChatCompletionDeveloperMessageParam
         * @description Developer-provided instructions that the model should follow, regardless of
         *     messages sent by the user. With o1 models and newer, `developer` messages
         *     replace the previous `system` messages.
         */
        ChatCompletionDeveloperMessageParam: {
            /** Content */
            content: string | components["schemas"]["ChatCompletionContentPartTextParam"][];
            /**
             * Role
             * @constant
             */
            role: "developer";
            /** Name */
            name?: string;
        };
        /** ChatCompletionFunctionMessageParam */
        ChatCompletionFunctionMessageParam: {
            /** Content */
            content: string | null;
            /** Name */
            name: string;
            /**
             * Role
             * @constant
             */
            role: "function";
        };
        /**
         * ChatCompletionFunctionToolParam
         * @description A function tool that can be used to generate a response.
         */
        ChatCompletionFunctionToolParam: {
            function: components["schemas"]["FunctionDefinition-Output"];
            /**
             * Type
             * @constant
             */
            type: "function";
        };
        /** ChatCompletionLogProb */
        ChatCompletionLogProb: {
            /** Token */
            token: string;
            /**
             * Logprob
             * @default -9999
             */
            logprob: number;
            /** Bytes */
            bytes?: number[] | null;
        };
        /** ChatCompletionLogProbs */
        ChatCompletionLogProbs: {
            /** Content */
            content?: components["schemas"]["ChatCompletionLogProbsContent"][] | null;
        };
        /** ChatCompletionLogProbsContent */
        ChatCompletionLogProbsContent: {
            /** Token */
            token: string;
            /**
             * Logprob
             * @default -9999
             */
            logprob: number;
            /** Bytes */
            bytes?: number[] | null;
            /** Top Logprobs */
            top_logprobs: components["schemas"]["ChatCompletionLogProb"][];
        };
        /**
         * ChatCompletionMessageCustomToolCallParam
         * @description A call to a custom tool created by the model.
         */
        ChatCompletionMessageCustomToolCallParam: {
            /** Id */
            id: string;
            custom: components["schemas"]["Custom"];
            /**
             * Type
             * @constant
             */
            type: "custom";
        };
        /**
         * ChatCompletionMessageFunctionToolCallParam
         * @description A call to a function tool created by the model.
         */
        ChatCompletionMessageFunctionToolCallParam: {
            /** Id */
            id: string;
            function: components["schemas"]["Function"];
            /**
             * Type
             * @constant
             */
            type: "function";
        };
        /** ChatCompletionNamedFunction */
        ChatCompletionNamedFunction: {
            /** Name */
            name: string;
        };
        /** ChatCompletionNamedToolChoiceParam */
        ChatCompletionNamedToolChoiceParam: {
            function: components["schemas"]["ChatCompletionNamedFunction"];
            /**
             * Type
             * @default function
             * @constant
             */
            type?: "function";
        };
        /** ChatCompletionResponseChoice */
        ChatCompletionResponseChoice: {
            /** Index */
            index: number;
            message: components["schemas"]["ChatMessage"];
            logprobs?: components["schemas"]["ChatCompletionLogProbs"] | null;
            /**
             * Finish Reason
             * @default stop
             */
            finish_reason?: string | null;
            /** Stop Reason */
            stop_reason?: number | string | null;
            /** Token Ids */
            token_ids?: number[] | null;
            /** Routed Experts */
            routed_experts?: string | null;
        };
        /**
         * ChatCompletionSystemMessageParam
         * @description Developer-provided instructions that the model should follow, regardless of
         *     messages sent by the user. With o1 models and newer, use `developer` messages
         *     for this purpose instead.
         */
        ChatCompletionSystemMessageParam: {
            /** Content */
            content: string | components["schemas"]["ChatCompletionContentPartTextParam"][];
            /**
             * Role
             * @constant
             */
            role: "system";
            /** Name */
            name?: string;
        };
        /** ChatCompletionToolMessageParam */
        ChatCompletionToolMessageParam: {
            /** Content */
            content: string | components["schemas"]["ChatCompletionContentPartTextParam"][];
            /**
             * Role
             * @constant
             */
            role: "tool";
            /** Tool Call Id */
            tool_call_id: string;
        };
        /** ChatCompletionToolsParam */
        ChatCompletionToolsParam: {
            /**
             * Type
             * @default function
             * @constant
             */
            type?: "function";
            function: components["schemas"]["vllm__entrypoints__generate__base__protocol__FunctionDefinition"];
            /** Defer Loading */
            defer_loading?: (boolean | components["schemas"]["LenientBoolean"]) | null;
        };
        /**
         * ChatCompletionUserMessageParam
         * @description Messages sent by an end user, containing prompts or additional context
         *     information.
         */
        ChatCompletionUserMessageParam: {
            /** Content */
            content: string | (components["schemas"]["ChatCompletionContentPartTextParam"] | components["schemas"]["ChatCompletionContentPartImageParam"] | components["schemas"]["ChatCompletionContentPartInputAudioParam"] | components["schemas"]["File"])[];
            /**
             * Role
             * @constant
             */
            role: "user";
            /** Name */
            name?: string;
        };
        /** ChatMessage */
        ChatMessage: {
            /** Role */
            role: string;
            /** Content */
            content?: string | null;
            /** Refusal */
            refusal?: string | null;
            annotations?: components["schemas"]["Annotation"] | null;
            audio?: components["schemas"]["ChatCompletionAudio"] | null;
            function_call?: components["schemas"]["vllm__entrypoints__generate__base__protocol__FunctionCall"] | null;
            /** Tool Calls */
            tool_calls?: components["schemas"]["ToolCall"][];
            /** Reasoning */
            reasoning?: string | null;
        };
        /**
         * ChatRequest
         * @description `/v1/chat/completions` with `preferences`.
         */
        ChatRequest: {
            /** Messages */
            messages: (components["schemas"]["ChatCompletionDeveloperMessageParam"] | components["schemas"]["ChatCompletionSystemMessageParam"] | components["schemas"]["ChatCompletionUserMessageParam"] | components["schemas"]["ChatCompletionAssistantMessageParam-Input"] | components["schemas"]["ChatCompletionToolMessageParam"] | components["schemas"]["ChatCompletionFunctionMessageParam"] | components["schemas"]["CustomChatCompletionMessageParam"] | components["schemas"]["openai_harmony__Message"])[];
            /** Model */
            model?: string | null;
            /** Frequency Penalty */
            frequency_penalty?: (number | components["schemas"]["LenientNumber"]) | null;
            /** Logit Bias */
            logit_bias?: {
                [key: string]: number | components["schemas"]["LenientNumber"];
            } | null;
            /**
             * Logprobs
             * @default false
             */
            logprobs?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Top Logprobs
             * @default 0
             */
            top_logprobs?: (number | components["schemas"]["LenientInteger"]) | null;
            /**
             * Max Tokens
             * @deprecated
             */
            max_tokens?: (number | components["schemas"]["LenientInteger"]) | null;
            /** Max Completion Tokens */
            max_completion_tokens?: (number | components["schemas"]["LenientInteger"]) | null;
            /**
             * N
             * @default 1
             */
            n?: (number | components["schemas"]["LenientInteger"]) | null;
            /** Presence Penalty */
            presence_penalty?: (number | components["schemas"]["LenientNumber"]) | null;
            /** Response Format */
            response_format?: components["schemas"]["ResponseFormat"] | components["schemas"]["StructuralTagResponseFormat"] | components["schemas"]["LegacyStructuralTagResponseFormat"] | null;
            /** Seed */
            seed?: (number | components["schemas"]["LenientInteger"]) | null;
            /**
             * Stop
             * @default []
             */
            stop?: string | string[] | null;
            /**
             * Stream
             * @default false
             */
            stream?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            stream_options?: components["schemas"]["StreamOptions"] | null;
            /** Temperature */
            temperature?: (number | components["schemas"]["LenientNumber"]) | null;
            /** Top P */
            top_p?: (number | components["schemas"]["LenientNumber"]) | null;
            /** Tools */
            tools?: components["schemas"]["ChatCompletionToolsParam"][] | null;
            /**
             * Tool Choice
             * @default none
             */
            tool_choice?: "none" | "auto" | "required" | components["schemas"]["ChatCompletionNamedToolChoiceParam"] | null;
            /**
             * Reasoning Effort
             * @description Constrains effort on reasoning for reasoning models. Currently supported values are none, minimal, low, medium, high, xhigh, and max. Reducing reasoning effort can result in faster responses and fewer tokens used on reasoning in a response. Note that 'max' is specific to the DeepSeek V4 series and is not part of the standard OpenAI API specification.
             */
            reasoning_effort?: ("none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max") | null;
            /** @description Refused: the server has no reasoning parser. */
            thinking_token_budget?: null;
            /**
             * Include Reasoning
             * @default true
             */
            include_reasoning?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Parallel Tool Calls
             * @default true
             */
            parallel_tool_calls?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /** User */
            user?: string | null;
            /**
             * Use Beam Search
             * @default false
             */
            use_beam_search?: boolean | components["schemas"]["LenientBoolean"];
            /** Top K */
            top_k?: (number | components["schemas"]["LenientInteger"]) | null;
            /** Min P */
            min_p?: (number | components["schemas"]["LenientNumber"]) | null;
            /** Repetition Penalty */
            repetition_penalty?: (number | components["schemas"]["LenientNumber"]) | null;
            /** Watermarking */
            watermarking?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Length Penalty
             * @default 1
             */
            length_penalty?: number | components["schemas"]["LenientNumber"];
            /**
             * Stop Token Ids
             * @default []
             */
            stop_token_ids?: (number | components["schemas"]["LenientInteger"])[] | null;
            /**
             * Include Stop Str In Output
             * @default false
             */
            include_stop_str_in_output?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Ignore Eos
             * @default false
             */
            ignore_eos?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Min Tokens
             * @default 0
             */
            min_tokens?: number | components["schemas"]["LenientInteger"];
            /**
             * Skip Special Tokens
             * @default true
             */
            skip_special_tokens?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Spaces Between Special Tokens
             * @default true
             */
            spaces_between_special_tokens?: boolean | components["schemas"]["LenientBoolean"];
            /** Truncate Prompt Tokens */
            truncate_prompt_tokens?: (number | components["schemas"]["LenientInteger"]) | null;
            /**
             * Truncation Side
             * @description Which side to truncate from when truncate_prompt_tokens is active. 'right' keeps the first N tokens. 'left' keeps the last N tokens.
             */
            truncation_side?: ("left" | "right") | null;
            /** Prompt Logprobs */
            prompt_logprobs?: (number | components["schemas"]["LenientInteger"]) | null;
            /**
             * Logprob Token Ids
             * @description Specific vocab token IDs to return logprobs for at each generated position, in addition to the sampled token. More efficient than `top_logprobs=-1` when only a small fixed label set is needed (e.g. multilabel scoring where each label corresponds to a known vocab id). When set, this explicit token selection takes precedence over the natural top-k selected by `top_logprobs`. Requires `logprobs=True`.
             */
            logprob_token_ids?: (number | components["schemas"]["LenientInteger"])[] | null;
            /** Allowed Token Ids */
            allowed_token_ids?: (number | components["schemas"]["LenientInteger"])[] | null;
            /** Bad Words */
            bad_words?: string[];
            /**
             * Echo
             * @description If true, the new message will be prepended with the last message if they belong to the same role.
             * @default false
             */
            echo?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Add Generation Prompt
             * @description If true, the generation prompt will be added to the chat template. This is a parameter used by chat template in tokenizer config of the model.
             * @default true
             */
            add_generation_prompt?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Continue Final Message
             * @description If this is set, the chat will be formatted so that the final message in the chat is open-ended, without any EOS tokens. The model will continue this message rather than starting a new one. This allows you to "prefill" part of the model's response for it. Cannot be used at the same time as `add_generation_prompt`.
             * @default false
             */
            continue_final_message?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Add Special Tokens
             * @description If true, special tokens (e.g. BOS) will be added to the prompt on top of what is added by the chat template. For most models, the chat template takes care of adding the special tokens so this should be set to false (as is the default).
             * @default false
             */
            add_special_tokens?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Documents
             * @description A list of dicts representing documents that will be accessible to the model if it is performing RAG (retrieval-augmented generation). If the template does not support RAG, this argument will have no effect. We recommend that each document should be a dict containing "title" and "text" keys.
             */
            documents?: {
                [key: string]: string;
            }[] | null;
            /** @description Refused: a client may not bring a template. */
            chat_template?: null;
            /** @description Refused: template variables reach past the tiers. */
            chat_template_kwargs?: null;
            /** @description Refused: media options are the operator's. */
            media_io_kwargs?: null;
            /** @description Refused: processor options are the operator's. */
            mm_processor_kwargs?: null;
            /** @description Additional kwargs for structured outputs */
            structured_outputs?: components["schemas"]["StructuredOutputsParams"] | null;
            /**
             * Priority
             * @description The priority of the request (lower means earlier handling; default: 0). Any priority other than 0 will raise an error if the served model does not use priority scheduling.
             * @default 0
             */
            priority?: number | components["schemas"]["LenientInteger"];
            /**
             * Request Id
             * @description The request_id related to this request. If the caller does not set it, a random_uuid will be generated. This id is used through out the inference process and return in response.
             */
            request_id?: string;
            /**
             * Session Id
             * @description Stable session identity shared by related requests. Unlike request_id, this value is expected to remain stable across multiple requests in the same conversation or agent session.
             */
            session_id?: string | null;
            /**
             * Return Tokens As Token Ids
             * @description If specified with 'logprobs', tokens are represented  as strings of the form 'token_id:{token_id}' so that tokens that are not JSON-encodable can be identified.
             */
            return_tokens_as_token_ids?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Return Token Ids
             * @description If specified, the result will include token IDs alongside the generated text. In streaming mode, prompt_token_ids is included only in the first chunk, and token_ids contains the delta tokens for each chunk. This is useful for debugging or when you need to map generated text back to input tokens.
             */
            return_token_ids?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Routed Experts Prompt Start
             * @description Skip the first N prompt tokens from returned routed-expert data.
             * @default 0
             */
            routed_experts_prompt_start?: number | components["schemas"]["LenientInteger"];
            /**
             * Return Token Offsets
             * @description If true, return char-level (start, end) offsets for each token relative to the tokenized source string in the `token_offsets` field of the rendered response. Only supported on the `/v1/completions/render` and `/v1/chat/completions/render` endpoints; ignored on regular generation endpoints. Honored only for Fast (Rust-backed) tokenizers; otherwise `token_offsets` is null. For chat requests, offsets are relative to the templated prompt string (after applying the chat template). Multimodal inputs and pre-tokenized inputs always yield null.
             * @default false
             */
            return_token_offsets?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Return Prompt Text
             * @description If true, the response will include ``prompt_text`` containing the prompt string produced by chat templating. In streaming mode it is sent only on the first chunk. This is useful for inspecting exactly what was fed into the model.
             */
            return_prompt_text?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Mm Payload
             * @description What the render response's `features` carry for multimodal items. 'tensors' serializes the processed tensors into `kwargs_data` and `mm_metadata`. 'none' sets both to null for callers that need only the token layout and item hashes, such as cache-aware routers. Do not send a 'none' response to `/inference/v1/generate` which reads a null `kwargs_data` as every item being cached. Only supported on the render endpoints. Ignored on regular generation endpoints.
             * @default tensors
             * @enum {string}
             */
            mm_payload?: "tensors" | "none";
            /**
             * Return Mm Kwargs
             * @deprecated
             * @description Deprecated alias: false is the same as `mm_payload='none'`. Ignored when `mm_payload` is set.
             */
            return_mm_kwargs?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /** @description Refused: the server alone decides who shares a prefix cache. */
            cache_salt?: null;
            /** @description Refused: cache transfer is between servers. */
            kv_transfer_params?: null;
            /** @description Refused: cache transfer is between servers. */
            ec_transfer_params?: null;
            /** @description Refused: the operator allows no arguments of the engine's extensions. */
            vllm_xargs?: null;
            /** @description Parameters for detecting repetitive N-gram patterns in output tokens. If such repetition is detected, generation will be ended early. LLMs can sometimes generate repetitive, unhelpful token patterns, stopping only when they hit the maximum output length (e.g. 'abcdabcdabcd...' or '\emoji \emoji \emoji ...'). This feature can detect such behavior and terminate early, saving time and tokens. */
            repetition_detection?: components["schemas"]["RepetitionDetectionParams"] | null;
            /**
             * Stream Interval
             * @description Number of tokens to batch into each streamed chunk. Raises the server's `--stream-interval` for this request. Values below the server setting are clamped up to it. The first and last chunks are always sent immediately. Ignored for non-streaming requests.
             */
            stream_interval?: (number | components["schemas"]["LenientInteger"]) | null;
            /**
             * Store
             * @description false: do not store this exchange, even if the operator stores exchanges.
             */
            store?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Preferences
             * @description Preferences of provider (`system`) and user (`user`); a bare string is `system`.
             */
            preferences?: string | {
                /**
                 * Version
                 * @default 1
                 * @constant
                 */
                version?: "1";
                /**
                 * Profile
                 * @description stored profiles; later ones win
                 * @default []
                 */
                profile?: string | string[];
                system?: string | {
                    /** Info */
                    info?: string | null;
                    /**
                     * Attributes
                     * @description dimension -> value
                     */
                    attributes?: {
                        [key: string]: string;
                    };
                    /**
                     * Priorities
                     * @description most important first
                     * @default []
                     */
                    priorities?: string[];
                    /**
                     * Locked
                     * @description dimensions that no later layer may change
                     * @default []
                     */
                    locked?: string[];
                    /** @description what `strength` may be in later layers */
                    strength_bounds?: {
                        /** System */
                        system?: [
                            number,
                            number
                        ] | null;
                        /** User */
                        user?: [
                            number,
                            number
                        ] | null;
                    } | null;
                } | null;
                user?: string | {
                    /** Info */
                    info?: string | null;
                    /**
                     * Attributes
                     * @description dimension -> value
                     */
                    attributes?: {
                        [key: string]: string;
                    };
                    /**
                     * Examples
                     * @default []
                     */
                    examples?: {
                        /** Query */
                        query: string;
                        /** Preferred */
                        preferred?: string | null;
                        /** Rejected */
                        rejected?: string | null;
                    }[];
                } | null;
                /**
                 * Verify
                 * @description checks of the answer, reported in the receipt; true: those that its dimensions imply
                 */
                verify?: {
                    /** Name */
                    name: string;
                    /** Arguments */
                    arguments?: {
                        [key: string]: unknown;
                    };
                }[] | true | null;
                /** @description how strongly the tiers act; a number is for both */
                strength?: number | {
                    /** System */
                    system?: number | null;
                    /** User */
                    user?: number | null;
                } | null;
                /**
                 * Blend
                 * @description User tiers to mix; the weights sum to 1
                 * @default []
                 */
                blend?: {
                    /** Weight */
                    weight: number;
                    /** Profile */
                    profile?: string | null;
                    user?: string | {
                        /** Info */
                        info?: string | null;
                        /**
                         * Attributes
                         * @description dimension -> value
                         */
                        attributes?: {
                            [key: string]: string;
                        };
                        /**
                         * Examples
                         * @default []
                         */
                        examples?: {
                            /** Query */
                            query: string;
                            /** Preferred */
                            preferred?: string | null;
                            /** Rejected */
                            rejected?: string | null;
                        }[];
                    } | null;
                }[];
                /**
                 * Candidates
                 * @description answers to sample; the one that the preferences make likeliest is returned
                 */
                candidates?: number | null;
            } | null;
        };
        /** CompletionTokenUsageInfo */
        CompletionTokenUsageInfo: {
            /**
             * Reasoning Tokens
             * @default 0
             */
            reasoning_tokens: number;
        };
        /**
         * Custom
         * @description The custom tool that the model called.
         */
        Custom: {
            /** Input */
            input: string;
            /** Name */
            name: string;
        };
        /**
         * CustomChatCompletionContentSimpleAudioParam
         * @description A simpler version of the param that only accepts a plain audio_url.
         *
         *     Example:
         *     {
         *         "audio_url": "https://example.com/audio.mp3"
         *     }
         */
        CustomChatCompletionContentSimpleAudioParam: {
            /** Audio Url */
            audio_url?: string | null;
        };
        /**
         * CustomChatCompletionContentSimpleImageParam
         * @description A simpler version of the param that only accepts a plain image_url.
         *     This is supported by OpenAI API, although it is not documented.
         *
         *     Example:
         *     {
         *         "image_url": "https://example.com/image.jpg"
         *     }
         */
        CustomChatCompletionContentSimpleImageParam: {
            /** Image Url */
            image_url?: string | null;
            /** Uuid */
            uuid?: string | null;
        };
        /**
         * CustomChatCompletionContentSimpleVideoParam
         * @description A simpler version of the param that only accepts a plain audio_url.
         *
         *     Example:
         *     {
         *         "video_url": "https://example.com/video.mp4"
         *     }
         */
        CustomChatCompletionContentSimpleVideoParam: {
            /** Video Url */
            video_url?: string | null;
            /** Uuid */
            uuid?: string | null;
        };
        /**
         * CustomChatCompletionContentToolReferenceParam
         * @description A tool reference content param that only accepts a plain tool name.
         *
         *     Example:
         *     {
         *         "name": "get_weather",
         *         "type": "tool_reference"
         *     }
         */
        CustomChatCompletionContentToolReferenceParam: {
            /** Name */
            name?: string;
            /**
             * Type
             * @constant
             */
            type?: "tool_reference";
        };
        /**
         * CustomChatCompletionMessageParam
         * @description Enables custom roles in the Chat Completion API.
         */
        CustomChatCompletionMessageParam: {
            /** Role */
            role: string;
            /** Content */
            content?: string | (components["schemas"]["ChatCompletionContentPartTextParam"] | components["schemas"]["ChatCompletionContentPartImageParam"] | components["schemas"]["ChatCompletionContentPartInputAudioParam"] | components["schemas"]["File"] | components["schemas"]["ChatCompletionContentPartAudioParam"] | components["schemas"]["ChatCompletionContentPartVideoParam"] | components["schemas"]["ChatCompletionContentPartRefusalParam"] | components["schemas"]["CustomChatCompletionContentSimpleImageParam"] | components["schemas"]["ChatCompletionContentPartImageEmbedsParam"] | components["schemas"]["ChatCompletionContentPartAudioEmbedsParam"] | components["schemas"]["ChatCompletionContentPartVideoEmbedsParam"] | components["schemas"]["ChatCompletionContentPartPromptEmbedsParam"] | components["schemas"]["CustomChatCompletionContentSimpleAudioParam"] | components["schemas"]["CustomChatCompletionContentSimpleVideoParam"] | components["schemas"]["CustomChatCompletionContentToolReferenceParam"] | string | components["schemas"]["CustomThinkCompletionContentParam"])[];
            /** Name */
            name?: string;
            /** Tool Call Id */
            tool_call_id?: string | null;
            /** Tool Calls */
            tool_calls?: components["schemas"]["ChatCompletionMessageFunctionToolCallParam"][] | null;
            /** Reasoning */
            reasoning?: string | null;
            /** Tools */
            tools?: components["schemas"]["ChatCompletionFunctionToolParam"][] | null;
            /** Task */
            task?: string | null;
        };
        /**
         * CustomThinkCompletionContentParam
         * @description A Think Completion Content Param that accepts a plain text and a boolean.
         *
         *     Example:
         *     {
         *         "thinking": "I am thinking about the answer",
         *         "closed": True,
         *         "type": "thinking"
         *     }
         */
        CustomThinkCompletionContentParam: {
            /** Thinking */
            thinking: string;
            /** Closed */
            closed?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Type
             * @constant
             */
            type: "thinking";
        };
        /**
         * DetokenizeAnswer
         * @description Their text.
         */
        DetokenizeAnswer: {
            /** Prompt */
            prompt: string;
        };
        /**
         * DetokenizeRequest
         * @description Token ids, at most as many as the model's context holds.
         */
        DetokenizeRequest: {
            /** Model */
            model?: string | null;
            /** Tokens */
            tokens: number[];
        };
        /**
         * DiffModel
         * @description The changes from one version to another.
         */
        DiffModel: {
            /** Profile */
            profile: string;
            /** From */
            from: number;
            /** To */
            to: number;
            /** Changes */
            changes: components["schemas"]["ChangeModel"][];
        };
        /** EraseBody */
        EraseBody: {
            /**
             * User
             * @description the id that requests sent as `user`
             */
            user: string;
        };
        /**
         * ErasureModel
         * @description The number of deleted rows.
         */
        ErasureModel: {
            /** Exchanges */
            exchanges: number;
            /** Feedback */
            feedback: number;
            /** Responses */
            responses: number;
        };
        /**
         * Example
         * @description An exchange that shows a preference instead of stating it; at least one of the two answers is given.
         */
        Example: {
            /** Query */
            query: string;
            /** Preferred */
            preferred?: string | null;
            /** Rejected */
            rejected?: string | null;
        };
        /**
         * FeedbackBody
         * @description A rating of an answer, or a better answer (`chosen`) and a worse one (`rejected`).
         *
         *     If only one of the two is given, the answer itself is the other.
         */
        FeedbackBody: {
            /**
             * Id
             * @description the id of the answer
             */
            id: string;
            /** Rating */
            rating?: ("up" | "down") | null;
            /** Chosen */
            chosen?: string | null;
            /** Rejected */
            rejected?: string | null;
        } | {
            rating: string;
        } | {
            chosen: string;
        } | {
            rejected: string;
        };
        /**
         * FeedbackModel
         * @description Feedback that was stored.
         */
        FeedbackModel: {
            /** Id */
            id: string;
            /** Recorded */
            recorded: boolean;
        };
        /**
         * File
         * @description Learn about [file inputs](https://developers.openai.com/api/docs/guides/text) for text generation.
         */
        File: {
            file: components["schemas"]["FileFile"];
            /**
             * Type
             * @constant
             */
            type: "file";
            prompt_cache_breakpoint?: components["schemas"]["FilePromptCacheBreakpoint"];
        };
        /** FileFile */
        FileFile: {
            /** File Data */
            file_data?: string;
            /** File Id */
            file_id?: string;
            /** Filename */
            filename?: string;
        };
        /**
         * FilePromptCacheBreakpoint
         * @description Marks the exact end of a reusable prompt prefix.
         *
         *     When `ttl` is omitted, the breakpoint inherits the request's `prompt_cache_options.ttl`; the boundary is not rounded to a token block.
         */
        FilePromptCacheBreakpoint: {
            /**
             * Mode
             * @constant
             */
            mode: "explicit";
            /**
             * Ttl
             * @enum {string}
             */
            ttl?: "30m" | "12h";
        };
        /**
         * Function
         * @description The function that the model called.
         */
        Function: {
            /** Arguments */
            arguments: string;
            /** Name */
            name: string;
        };
        /**
         * FunctionCall
         * @description Deprecated and replaced by `tool_calls`.
         *
         *     The name and arguments of a function that should be called, as generated by the model.
         */
        "FunctionCall-Input": {
            /** Arguments */
            arguments: string;
            /** Name */
            name: string;
        };
        /** FunctionDefinition */
        "FunctionDefinition-Output": {
            /** Name */
            name: string;
            /** Description */
            description?: string;
            /** Parameters */
            parameters?: {
                [key: string]: unknown;
            };
            /** Strict */
            strict?: (boolean | components["schemas"]["LenientBoolean"]) | null;
        };
        /** ImageURL */
        ImageURL: {
            /** Url */
            url: string;
            /**
             * Detail
             * @enum {string}
             */
            detail?: "auto" | "low" | "high" | "original";
        };
        /**
         * ImportReport
         * @description The result of an import, by profile name.
         */
        ImportReport: {
            /** Created */
            created: string[];
            /** Extended */
            extended: string[];
            /** Unchanged */
            unchanged: string[];
        };
        /** InputAudio */
        InputAudio: {
            /** Data */
            data: string;
            /**
             * Format
             * @enum {string}
             */
            format: "wav" | "mp3";
        };
        /** JsonSchemaResponseFormat */
        JsonSchemaResponseFormat: {
            /** Name */
            name: string;
            /** Description */
            description?: string | null;
            /** Schema */
            schema?: {
                [key: string]: unknown;
            } | null;
            /** Strict */
            strict?: (boolean | components["schemas"]["LenientBoolean"]) | null;
        };
        /**
         * KeyModel
         * @description One key, without its secret.
         */
        KeyModel: {
            /** Id */
            id: string;
            /** Tenant */
            tenant: string;
            /** Name */
            name: string;
            /** Scopes */
            scopes: string[];
            limits: components["schemas"]["Limits"];
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Expires At */
            expires_at: string | null;
            /** Revoked At */
            revoked_at: string | null;
        };
        /**
         * KeyPage
         * @description A page of keys; for the next page, `after` is the id of the last one.
         */
        KeyPage: {
            /** Data */
            data: components["schemas"]["KeyModel"][];
            /** Has More */
            has_more: boolean;
        };
        /**
         * LabelDocument
         * @description A label of an exported profile.
         */
        LabelDocument: {
            /** Versions */
            versions: components["schemas"]["TargetDocument"][];
            /**
             * Protected
             * @default false
             */
            protected?: boolean;
        };
        /**
         * LabelModel
         * @description A label: a name that moves between versions.
         */
        LabelModel: {
            /** Versions */
            versions: components["schemas"]["TargetModel"][];
            /** Protected */
            protected: boolean;
            /**
             * Updated At
             * Format: date-time
             */
            updated_at: string;
        };
        /**
         * LabelMove
         * @description One `version`, or several `versions` by weight.
         */
        LabelMove: {
            /** Version */
            version?: number | null;
            /** Versions */
            versions?: components["schemas"]["Target"][] | null;
            /** Protected */
            protected?: boolean | null;
        } & ({
            version: unknown;
            versions?: null;
        } | {
            versions: unknown;
            version?: null;
        });
        /**
         * LearnModel
         * @description How many of the most recently liked exchanges become examples, and whose.
         */
        LearnModel: {
            /**
             * Examples
             * @default 0
             */
            examples?: number;
            /**
             * Scope
             * @default user
             * @enum {string}
             */
            scope?: "user" | "profile";
        };
        /** LegacyStructuralTag */
        LegacyStructuralTag: {
            /** Begin */
            begin: string;
            /** Schema */
            schema?: {
                [key: string]: unknown;
            } | null;
            /** End */
            end: string;
        };
        /** LegacyStructuralTagResponseFormat */
        LegacyStructuralTagResponseFormat: {
            /**
             * Type
             * @constant
             */
            type: "structural_tag";
            /** Structures */
            structures: components["schemas"]["LegacyStructuralTag"][];
            /** Triggers */
            triggers: string[];
        };
        /** @description Also taken for the type boolean. */
        LenientBoolean: string | number;
        /** @description Also taken for the type integer. */
        LenientInteger: string | boolean;
        /** @description Also taken for the type number. */
        LenientNumber: string | boolean;
        /**
         * Limits
         * @description Usage limits of a key or a tenant; None means no limit. Tokens are those of prompts and answers together.
         */
        Limits: {
            /** Requests Per Minute */
            requests_per_minute?: number | null;
            /** Tokens Per Minute */
            tokens_per_minute?: number | null;
            /**
             * Concurrency
             * @description concurrent requests to the model
             */
            concurrency?: number | null;
            /**
             * Tokens Per Day
             * @description token budget for 24 hours
             */
            tokens_per_day?: number | null;
        };
        /**
         * LimitsBody
         * @description Limits in a request.
         */
        LimitsBody: {
            /** Requests Per Minute */
            requests_per_minute?: number | null;
            /** Tokens Per Minute */
            tokens_per_minute?: number | null;
            /**
             * Concurrency
             * @description concurrent requests to the model
             */
            concurrency?: number | null;
            /**
             * Tokens Per Day
             * @description token budget for 24 hours
             */
            tokens_per_day?: number | null;
        };
        /** ModelCard */
        ModelCard: {
            /** Id */
            id: string;
            /**
             * Object
             * @default model
             */
            object: string;
            /** Created */
            created: number;
            /**
             * Owned By
             * @default vllm
             */
            owned_by: string;
            /** Root */
            root?: string | null;
            /** Parent */
            parent?: string | null;
            /** Max Model Len */
            max_model_len?: number | null;
            /** Permission */
            permission: components["schemas"]["ModelPermission"][];
        };
        /** ModelList */
        ModelList: {
            /**
             * Object
             * @default list
             */
            object: string;
            /** Data */
            data: components["schemas"]["ModelCard"][];
        };
        /** ModelPermission */
        ModelPermission: {
            /** Id */
            id: string;
            /**
             * Object
             * @default model_permission
             */
            object: string;
            /** Created */
            created: number;
            /**
             * Allow Create Engine
             * @default false
             */
            allow_create_engine: boolean;
            /**
             * Allow Sampling
             * @default true
             */
            allow_sampling: boolean;
            /**
             * Allow Logprobs
             * @default true
             */
            allow_logprobs: boolean;
            /**
             * Allow Search Indices
             * @default false
             */
            allow_search_indices: boolean;
            /**
             * Allow View
             * @default true
             */
            allow_view: boolean;
            /**
             * Allow Fine Tuning
             * @default false
             */
            allow_fine_tuning: boolean;
            /**
             * Organization
             * @default *
             */
            organization: string;
            /** Group */
            group?: string | null;
            /**
             * Is Blocking
             * @default false
             */
            is_blocking: boolean;
        };
        /**
         * NamedCheck
         * @description A check of the answer, by its name and arguments in `metaalign.verifiers`.
         */
        NamedCheck: {
            /** Name */
            name: string;
            /** Arguments */
            arguments?: {
                [key: string]: unknown;
            };
        };
        /** NewKeyBody */
        NewKeyBody: {
            /**
             * Tenant
             * @default default
             */
            tenant?: string;
            /**
             * Name
             * @default
             */
            name?: string;
            /** Scopes */
            scopes: ("inference" | "system" | "profiles:read" | "profiles:write" | "metrics" | "admin")[];
            limits?: components["schemas"]["LimitsBody"] | null;
            /** Expires At */
            expires_at?: number | null;
        };
        /**
         * NewKeyModel
         * @description A newly created key; `key` is shown only once.
         */
        NewKeyModel: {
            /** Id */
            id: string;
            /** Tenant */
            tenant: string;
            /** Name */
            name: string;
            /** Scopes */
            scopes: string[];
            limits: components["schemas"]["Limits"];
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Expires At */
            expires_at: string | null;
            /** Revoked At */
            revoked_at: string | null;
            /** Key */
            key: string;
        };
        /** NewProfile */
        NewProfile: {
            /**
             * Note
             * @description the reason, for people
             * @default
             */
            note?: string;
            /** @description Preferences of provider (`system`) and user (`user`); a bare string is `system`. */
            preferences?: string | components["schemas"]["Preferences"] | null;
            /** Name */
            name: string;
            /**
             * @default {
             *       "examples": 0,
             *       "scope": "user"
             *     }
             */
            learn?: components["schemas"]["LearnModel"];
        };
        /** NewTenant */
        NewTenant: {
            /** Name */
            name: string;
            policy?: components["schemas"]["SystemPreferences"] | null;
            limits?: components["schemas"]["LimitsBody"] | null;
            /**
             * Share Cache
             * @description share prefix-cache blocks of whole prompts with other tenants that do
             * @default false
             */
            share_cache?: boolean;
            /**
             * Share Policy
             * @description share prefix-cache blocks of the policy with tenants that have the same one
             * @default false
             */
            share_policy?: boolean;
        };
        /** NewVersion */
        NewVersion: {
            /**
             * Note
             * @description the reason, for people
             * @default
             */
            note?: string;
            /** @description Preferences of provider (`system`) and user (`user`); a bare string is `system`. */
            preferences?: string | components["schemas"]["Preferences"] | null;
        };
        /**
         * OverriddenEntry
         * @description A value that was overridden and not rendered.
         */
        OverriddenEntry: {
            /** Dimension */
            dimension: string;
            /** Tier */
            tier: string;
            /** Value */
            value: string;
            /** Kept */
            kept: string;
            /** By */
            by: string;
        };
        /** PerRequestMetrics */
        PerRequestMetrics: {
            /** Time To First Token Ms */
            time_to_first_token_ms?: number | null;
            /** Generation Time Ms */
            generation_time_ms?: number | null;
            /** Queue Time Ms */
            queue_time_ms?: number | null;
            /** Mean Itl Ms */
            mean_itl_ms?: number | null;
            /** Tokens Per Second */
            tokens_per_second?: number | null;
            speculative_decoding?: components["schemas"]["SpeculativeDecodingMetrics"] | null;
        };
        /**
         * Preferences
         * @description The whole field. A bare string stands for `{"system": "…"}`.
         */
        Preferences: {
            /**
             * Version
             * @default 1
             * @constant
             */
            version?: "1";
            /**
             * Profile
             * @description stored profiles; later ones win
             * @default []
             */
            profile?: string | string[];
            system?: string | components["schemas"]["SystemPreferences"] | null;
            user?: string | components["schemas"]["UserPreferences"] | null;
            /**
             * Verify
             * @description checks of the answer, reported in the receipt; true: those that its dimensions imply
             */
            verify?: components["schemas"]["NamedCheck"][] | true | null;
            /** @description how strongly the tiers act; a number is for both */
            strength?: number | components["schemas"]["Strength"] | null;
            /**
             * Blend
             * @description User tiers to mix; the weights sum to 1
             * @default []
             */
            blend?: components["schemas"]["BlendPart"][];
            /**
             * Candidates
             * @description answers to sample; the one that the preferences make likeliest is returned
             */
            candidates?: number | null;
        };
        /** ProfileChange */
        ProfileChange: {
            /** Archived */
            archived?: boolean | null;
            learn?: components["schemas"]["LearnModel"] | null;
            /**
             * Shared
             * @description share the prefix-cache blocks of its further versions between tenants; takes `admin`
             */
            shared?: boolean | null;
        };
        /**
         * ProfileDocument
         * @description One exported profile.
         */
        ProfileDocument: {
            /** Name */
            name: string;
            /** Versions */
            versions: components["schemas"]["VersionDocument"][];
            /** Labels */
            labels?: {
                [key: string]: components["schemas"]["LabelDocument"];
            };
            /**
             * Archived
             * @default false
             */
            archived?: boolean;
            /**
             * Learn Examples
             * @default 0
             */
            learn_examples?: number;
            /**
             * Learn Scope
             * @default user
             * @enum {string}
             */
            learn_scope?: "user" | "profile";
        };
        /**
         * ProfileModel
         * @description A profile without its versions.
         */
        ProfileModel: {
            /** Name */
            name: string;
            /** Latest */
            latest: number;
            /** Labels */
            labels: {
                [key: string]: components["schemas"]["LabelModel"];
            };
            /** Archived */
            archived: boolean;
            learn: components["schemas"]["LearnModel"];
            /** Shared */
            shared: boolean;
            /** Etag */
            etag: string;
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /**
             * Updated At
             * Format: date-time
             */
            updated_at: string;
        };
        /**
         * ProfilePage
         * @description A page of profiles; for the next page, `after` is the name of the last one.
         */
        ProfilePage: {
            /** Data */
            data: components["schemas"]["ProfileModel"][];
            /** Has More */
            has_more: boolean;
        };
        /**
         * ProfilesDocument
         * @description Profiles with their versions and labels, as JSON or YAML.
         */
        ProfilesDocument: {
            /** Profiles */
            profiles: components["schemas"]["ProfileDocument"][];
        };
        /** PromptTokenUsageInfo */
        PromptTokenUsageInfo: {
            /** Cached Tokens */
            cached_tokens?: number | null;
            /** Created Cache Tokens */
            created_cache_tokens?: number | null;
            /** Multimodal Tokens */
            multimodal_tokens?: {
                [key: string]: number;
            } | null;
        };
        /**
         * Receipt
         * @description What the server applied. `applied` is true if at least one tier is not empty.
         *
         *     `learned_examples` counts liked exchanges that feedback on a profile added to the User tier. `verified` is there if
         *     `preferences.verify` asks for it, once the answer is complete: in a stream on one of the last events. `steering` is
         *     there if the preferences hold a strength other than 1, a blend or candidates.
         */
        Receipt: {
            /** Applied */
            applied: boolean;
            /** Spec Hash */
            spec_hash: string;
            template: components["schemas"]["TemplateReference"];
            /**
             * Profiles
             * @default []
             */
            profiles: string[];
            /**
             * Learned Examples
             * @default 0
             */
            learned_examples: number;
            /**
             * Overridden
             * @default []
             */
            overridden: components["schemas"]["OverriddenEntry"][];
            tokens: components["schemas"]["TierTokens"];
            steering?: components["schemas"]["SteeringApplied"] | null;
            /** Verified */
            verified?: components["schemas"]["VerifiedAnswer"][] | null;
        };
        /**
         * RenderAnswer
         * @description The answer of `/v1/preferences/render`. `branches` is empty unless several prompts draw the answer.
         */
        RenderAnswer: {
            /** System Info */
            system_info: string;
            /** User Info */
            user_info: string;
            /** Prompt */
            prompt: string;
            /** Prompt Token Ids */
            prompt_token_ids: number[];
            /** Tokens */
            tokens: number;
            /** Branches */
            branches: components["schemas"]["RenderedBranch"][];
            metaalign: components["schemas"]["Receipt"];
        };
        /**
         * RenderRequest
         * @description The dry run: preferences and a dialogue.
         */
        RenderRequest: {
            /**
             * Preferences
             * @description Preferences of provider (`system`) and user (`user`); a bare string is `system`.
             */
            preferences?: string | {
                /**
                 * Version
                 * @default 1
                 * @constant
                 */
                version?: "1";
                /**
                 * Profile
                 * @description stored profiles; later ones win
                 * @default []
                 */
                profile?: string | string[];
                system?: string | {
                    /** Info */
                    info?: string | null;
                    /**
                     * Attributes
                     * @description dimension -> value
                     */
                    attributes?: {
                        [key: string]: string;
                    };
                    /**
                     * Priorities
                     * @description most important first
                     * @default []
                     */
                    priorities?: string[];
                    /**
                     * Locked
                     * @description dimensions that no later layer may change
                     * @default []
                     */
                    locked?: string[];
                    /** @description what `strength` may be in later layers */
                    strength_bounds?: {
                        /** System */
                        system?: [
                            number,
                            number
                        ] | null;
                        /** User */
                        user?: [
                            number,
                            number
                        ] | null;
                    } | null;
                } | null;
                user?: string | {
                    /** Info */
                    info?: string | null;
                    /**
                     * Attributes
                     * @description dimension -> value
                     */
                    attributes?: {
                        [key: string]: string;
                    };
                    /**
                     * Examples
                     * @default []
                     */
                    examples?: {
                        /** Query */
                        query: string;
                        /** Preferred */
                        preferred?: string | null;
                        /** Rejected */
                        rejected?: string | null;
                    }[];
                } | null;
                /**
                 * Verify
                 * @description checks of the answer, reported in the receipt; true: those that its dimensions imply
                 */
                verify?: {
                    /** Name */
                    name: string;
                    /** Arguments */
                    arguments?: {
                        [key: string]: unknown;
                    };
                }[] | true | null;
                /** @description how strongly the tiers act; a number is for both */
                strength?: number | {
                    /** System */
                    system?: number | null;
                    /** User */
                    user?: number | null;
                } | null;
                /**
                 * Blend
                 * @description User tiers to mix; the weights sum to 1
                 * @default []
                 */
                blend?: {
                    /** Weight */
                    weight: number;
                    /** Profile */
                    profile?: string | null;
                    user?: string | {
                        /** Info */
                        info?: string | null;
                        /**
                         * Attributes
                         * @description dimension -> value
                         */
                        attributes?: {
                            [key: string]: string;
                        };
                        /**
                         * Examples
                         * @default []
                         */
                        examples?: {
                            /** Query */
                            query: string;
                            /** Preferred */
                            preferred?: string | null;
                            /** Rejected */
                            rejected?: string | null;
                        }[];
                    } | null;
                }[];
                /**
                 * Candidates
                 * @description answers to sample; the one that the preferences make likeliest is returned
                 */
                candidates?: number | null;
            } | null;
            /** Model */
            model?: string | null;
            /** User */
            user?: string | null;
            /** Messages */
            messages?: {
                role: string;
                content: string | (string | {
                    text?: string;
                })[];
            }[];
        };
        /**
         * RenderedBranch
         * @description One of the prompts that draw a steered answer; its logits are multiplied by `coefficient`.
         */
        RenderedBranch: {
            /** Coefficient */
            coefficient: number;
            /** System Info */
            system_info: string;
            /** User Info */
            user_info: string;
            /** Prompt Token Ids */
            prompt_token_ids: number[];
        };
        /**
         * RepetitionDetectionParams
         * @description Parameters for detecting repetitive N-gram patterns in output tokens.
         */
        RepetitionDetectionParams: {
            /**
             * Max Pattern Size
             * @default 0
             */
            max_pattern_size?: number | components["schemas"]["LenientInteger"];
            /**
             * Min Pattern Size
             * @default 0
             */
            min_pattern_size?: number | components["schemas"]["LenientInteger"];
            /**
             * Min Count
             * @default 0
             */
            min_count?: number | components["schemas"]["LenientInteger"];
        };
        /** ResponseFormat */
        ResponseFormat: {
            /**
             * Type
             * @enum {string}
             */
            type: "text" | "json_object" | "json_schema";
            json_schema?: components["schemas"]["JsonSchemaResponseFormat"] | null;
        };
        /**
         * Role
         * @description The role of a message author (mirrors ``chat::Role``).
         * @enum {string}
         */
        Role: "user" | "assistant" | "system" | "developer" | "tool";
        /** Rotation */
        Rotation: {
            /**
             * Grace Seconds
             * @default 86400
             */
            grace_seconds?: number;
        };
        /**
         * SpeculativeDecodingMetrics
         * @description Per-request speculative-decoding acceptance metrics.
         *
         *     Experimental, subject to change. Only populated for single-sequence requests
         *     (`n == 1`); `null` for `n > 1`, mirroring the timing metrics.
         */
        SpeculativeDecodingMetrics: {
            /** Mean Acceptance Length */
            mean_acceptance_length: number;
            /** Draft Acceptance Rate */
            draft_acceptance_rate: number;
            /** Acceptance Histogram */
            acceptance_histogram: number[];
            /** Num Spec Steps */
            num_spec_steps: number;
            /** Num Accepted Draft Tokens */
            num_accepted_draft_tokens: number;
            /** Num Draft Tokens */
            num_draft_tokens: number;
            /** Num Spec Tokens */
            num_spec_tokens: number;
            /** Per Step Accepted */
            per_step_accepted?: number[] | null;
            /** Per Step Drafted */
            per_step_drafted?: number[] | null;
        };
        /**
         * StateModel
         * @description The state of the process.
         */
        StateModel: {
            /** Status */
            status: string;
        };
        /**
         * SteeringApplied
         * @description How the answer was steered.
         *
         *     `branches` is how many prompts drew each token together; `blend` the weights of the User tiers, as given. `score`
         *     is that of the answer that was chosen among `candidates`: how much likelier each of its tokens is with the
         *     preferences than without, as a mean of log probabilities in nats. In a stream it is in the first event that has one.
         */
        SteeringApplied: {
            strength: components["schemas"]["StrengthApplied"];
            /** Branches */
            branches: number;
            /** Blend */
            blend?: number[] | null;
            /** Candidates */
            candidates?: number | null;
            /** Score */
            score?: number | null;
        };
        /** StreamOptions */
        StreamOptions: {
            /**
             * Include Usage
             * @default false
             */
            include_usage?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Continuous Usage Stats
             * @default false
             */
            continuous_usage_stats?: (boolean | components["schemas"]["LenientBoolean"]) | null;
        };
        /**
         * Strength
         * @description How strongly each tier acts: 1 as trained, 0 as if it were not there. A tier that is left out keeps its own.
         */
        Strength: {
            /** System */
            system?: number | null;
            /** User */
            user?: number | null;
        };
        /**
         * StrengthApplied
         * @description How strongly each tier acted; 1 is as trained.
         */
        StrengthApplied: {
            /** System */
            system: number;
            /** User */
            user: number;
        };
        /**
         * StrengthBounds
         * @description Lowest and highest strength that later layers may give each tier; twice the same value fixes it.
         */
        StrengthBounds: {
            /** System */
            system?: [
                number,
                number
            ] | null;
            /** User */
            user?: [
                number,
                number
            ] | null;
        };
        /** StructuralTagResponseFormat */
        StructuralTagResponseFormat: {
            /**
             * Type
             * @constant
             */
            type: "structural_tag";
            /** Format */
            format: unknown;
        };
        /** StructuredOutputsParams */
        StructuredOutputsParams: {
            /** Json */
            json?: string | {
                [key: string]: unknown;
            } | null;
            /** Regex */
            regex?: string | null;
            /** Choice */
            choice?: string[] | null;
            /** Grammar */
            grammar?: string | null;
            /** Json Object */
            json_object?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /**
             * Disable Any Whitespace
             * @default false
             */
            disable_any_whitespace?: boolean | components["schemas"]["LenientBoolean"];
            /**
             * Disable Additional Properties
             * @default false
             */
            disable_additional_properties?: boolean | components["schemas"]["LenientBoolean"];
            /** Whitespace Pattern */
            whitespace_pattern?: string | null;
            /** Structural Tag */
            structural_tag?: string | null;
            /** Backend */
            _backend?: string | null;
            /**
             * Backend Was Auto
             * @default false
             */
            _backend_was_auto?: boolean | components["schemas"]["LenientBoolean"];
        };
        /**
         * SystemPreferences
         * @description The provider's preferences: the System tier.
         */
        SystemPreferences: {
            /** Info */
            info?: string | null;
            /**
             * Attributes
             * @description dimension -> value
             */
            attributes?: {
                [key: string]: string;
            };
            /**
             * Priorities
             * @description most important first
             * @default []
             */
            priorities?: string[];
            /**
             * Locked
             * @description dimensions that no later layer may change
             * @default []
             */
            locked?: string[];
            /** @description what `strength` may be in later layers */
            strength_bounds?: components["schemas"]["StrengthBounds"] | null;
        };
        /** Target */
        Target: {
            /** Version */
            version: number;
            /**
             * Weight
             * @default 100
             */
            weight?: number;
        };
        /**
         * TargetDocument
         * @description One version that a label points to.
         */
        TargetDocument: {
            /** Version */
            version: number;
            /**
             * Weight
             * @default 100
             */
            weight?: number;
        };
        /**
         * TargetModel
         * @description A version that a label points to.
         */
        TargetModel: {
            /** Version */
            version: number;
            /** Weight */
            weight: number;
        };
        /**
         * TemplateReference
         * @description The template that rendered the tiers; `sha256` is the hash of its source, in hexadecimal.
         */
        TemplateReference: {
            /** Name */
            name: string;
            /** Version */
            version: string;
            /** Sha256 */
            sha256: string;
        };
        /** TenantChange */
        TenantChange: {
            policy?: components["schemas"]["SystemPreferences"] | null;
            limits?: components["schemas"]["LimitsBody"] | null;
            /** Share Cache */
            share_cache?: boolean | null;
            /** Share Policy */
            share_policy?: boolean | null;
            /** Disabled */
            disabled?: boolean | null;
        };
        /**
         * TenantModel
         * @description One tenant.
         */
        TenantModel: {
            /** Id */
            id: string;
            /** Name */
            name: string;
            /**
             * Policy
             * @description System preferences that no request of the tenant can override
             */
            policy?: unknown;
            limits: components["schemas"]["Limits"];
            /** Share Cache */
            share_cache: boolean;
            /** Share Policy */
            share_policy: boolean;
            /** Disabled */
            disabled: boolean;
            /** Etag */
            etag: string;
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
        };
        /**
         * TenantPage
         * @description A page of tenants; for the next page, `after` is the name of the last one.
         */
        TenantPage: {
            /** Data */
            data: components["schemas"]["TenantModel"][];
            /** Has More */
            has_more: boolean;
        };
        /**
         * TierTokens
         * @description Prompt tokens of each tier's text, without control tokens.
         */
        TierTokens: {
            /** System Info */
            system_info: number;
            /** User Info */
            user_info: number;
        };
        /**
         * TokenizeAnswer
         * @description The ids and how many the model could take; `metaalign` is null without preferences.
         */
        TokenizeAnswer: {
            /** Count */
            count: number;
            /** Max Model Len */
            max_model_len: number;
            /** Tokens */
            tokens: number[];
            /** Token Strs */
            token_strs: string[] | null;
            metaalign: components["schemas"]["Receipt"] | null;
        };
        /**
         * TokenizeRequest
         * @description A dialogue (`messages`), or one text (`prompt`) as `/v1/completions` takes it.
         */
        TokenizeRequest: {
            /**
             * Preferences
             * @description Preferences of provider (`system`) and user (`user`); a bare string is `system`.
             */
            preferences?: string | {
                /**
                 * Version
                 * @default 1
                 * @constant
                 */
                version?: "1";
                /**
                 * Profile
                 * @description stored profiles; later ones win
                 * @default []
                 */
                profile?: string | string[];
                system?: string | {
                    /** Info */
                    info?: string | null;
                    /**
                     * Attributes
                     * @description dimension -> value
                     */
                    attributes?: {
                        [key: string]: string;
                    };
                    /**
                     * Priorities
                     * @description most important first
                     * @default []
                     */
                    priorities?: string[];
                    /**
                     * Locked
                     * @description dimensions that no later layer may change
                     * @default []
                     */
                    locked?: string[];
                    /** @description what `strength` may be in later layers */
                    strength_bounds?: {
                        /** System */
                        system?: [
                            number,
                            number
                        ] | null;
                        /** User */
                        user?: [
                            number,
                            number
                        ] | null;
                    } | null;
                } | null;
                user?: string | {
                    /** Info */
                    info?: string | null;
                    /**
                     * Attributes
                     * @description dimension -> value
                     */
                    attributes?: {
                        [key: string]: string;
                    };
                    /**
                     * Examples
                     * @default []
                     */
                    examples?: {
                        /** Query */
                        query: string;
                        /** Preferred */
                        preferred?: string | null;
                        /** Rejected */
                        rejected?: string | null;
                    }[];
                } | null;
                /**
                 * Verify
                 * @description checks of the answer, reported in the receipt; true: those that its dimensions imply
                 */
                verify?: {
                    /** Name */
                    name: string;
                    /** Arguments */
                    arguments?: {
                        [key: string]: unknown;
                    };
                }[] | true | null;
                /** @description how strongly the tiers act; a number is for both */
                strength?: number | {
                    /** System */
                    system?: number | null;
                    /** User */
                    user?: number | null;
                } | null;
                /**
                 * Blend
                 * @description User tiers to mix; the weights sum to 1
                 * @default []
                 */
                blend?: {
                    /** Weight */
                    weight: number;
                    /** Profile */
                    profile?: string | null;
                    user?: string | {
                        /** Info */
                        info?: string | null;
                        /**
                         * Attributes
                         * @description dimension -> value
                         */
                        attributes?: {
                            [key: string]: string;
                        };
                        /**
                         * Examples
                         * @default []
                         */
                        examples?: {
                            /** Query */
                            query: string;
                            /** Preferred */
                            preferred?: string | null;
                            /** Rejected */
                            rejected?: string | null;
                        }[];
                    } | null;
                }[];
                /**
                 * Candidates
                 * @description answers to sample; the one that the preferences make likeliest is returned
                 */
                candidates?: number | null;
            } | null;
            /** Model */
            model?: string | null;
            /** User */
            user?: string | null;
            /** Messages */
            messages?: {
                role: string;
                content: string | (string | {
                    text?: string;
                })[];
            }[] | null;
            /** Prompt */
            prompt?: string | null;
            /** Tools */
            tools?: {
                [key: string]: unknown;
            }[] | null;
            /**
             * Add Generation Prompt
             * @default true
             */
            add_generation_prompt?: boolean;
            /**
             * Continue Final Message
             * @default false
             */
            continue_final_message?: boolean;
            /**
             * Add Special Tokens
             * @description default: true for `prompt`, false for `messages`
             */
            add_special_tokens?: boolean | null;
            /**
             * Return Token Strs
             * @default false
             */
            return_token_strs?: boolean;
        };
        /** ToolCall */
        ToolCall: {
            /** Id */
            id: string;
            /**
             * Type
             * @default function
             * @constant
             */
            type: "function";
            function: components["schemas"]["vllm__entrypoints__generate__base__protocol__FunctionCall"];
        };
        /** UsageInfo */
        UsageInfo: {
            /**
             * Prompt Tokens
             * @default 0
             */
            prompt_tokens: number;
            /**
             * Total Tokens
             * @default 0
             */
            total_tokens: number;
            /**
             * Completion Tokens
             * @default 0
             */
            completion_tokens?: number | null;
            prompt_tokens_details?: components["schemas"]["PromptTokenUsageInfo"] | null;
            completion_tokens_details?: components["schemas"]["CompletionTokenUsageInfo"] | null;
        };
        /**
         * UserPreferences
         * @description The user's own preferences: the User tier.
         */
        UserPreferences: {
            /** Info */
            info?: string | null;
            /**
             * Attributes
             * @description dimension -> value
             */
            attributes?: {
                [key: string]: string;
            };
            /**
             * Examples
             * @default []
             */
            examples?: components["schemas"]["Example"][];
        };
        /**
         * VerifiedAnswer
         * @description What `preferences.verify` found in one choice of an answer.
         *
         *     `passed` is whether every check passed, and None if there was nothing to check: `verify: true` with preferences that
         *     imply no check, such as free text.
         */
        VerifiedAnswer: {
            /** Index */
            index: number;
            /** Passed */
            passed: boolean | null;
            /** Checks */
            checks: components["schemas"]["VerifiedCheck"][];
        };
        /**
         * VerifiedCheck
         * @description What one check says of an answer, and why.
         */
        VerifiedCheck: {
            /** Name */
            name: string;
            /** Passed */
            passed: boolean;
            /** Why */
            why: string;
        };
        /**
         * VersionDocument
         * @description One version of an exported profile.
         */
        VersionDocument: {
            /** Number */
            number: number;
            /** Preferences */
            preferences: unknown;
            /**
             * Note
             * @default
             */
            note?: string;
        };
        /**
         * VersionModel
         * @description One version; it never changes.
         */
        VersionModel: {
            /** Profile */
            profile: string;
            /** Version */
            version: number;
            /** Preferences */
            preferences: unknown;
            /** Sha256 */
            sha256: string;
            /** Note */
            note: string;
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Created By */
            created_by: string;
        };
        /**
         * VersionPage
         * @description A page of versions, newest first; for the next page, `before` is the number of the last one.
         */
        VersionPage: {
            /** Data */
            data: components["schemas"]["VersionModel"][];
            /** Has More */
            has_more: boolean;
        };
        /**
         * VersionsModel
         * @description The versions of what is running.
         */
        VersionsModel: {
            /** Version */
            version: string;
            /** Vllm */
            vllm: string;
            template: components["schemas"]["TemplateReference"];
        };
        /** VideoURL */
        VideoURL: {
            /** Url */
            url: string;
        };
        /**
         * PromptCacheBreakpoint
         * @description Marks the exact end of a reusable prompt prefix.
         *
         *     When `ttl` is omitted, the breakpoint inherits the request's `prompt_cache_options.ttl`; the boundary is not rounded to a token block.
         */
        openai__types__chat__chat_completion_content_part_image_param__PromptCacheBreakpoint: {
            /**
             * Mode
             * @constant
             */
            mode: "explicit";
            /**
             * Ttl
             * @enum {string}
             */
            ttl?: "30m" | "12h";
        };
        /**
         * PromptCacheBreakpoint
         * @description Marks the exact end of a reusable prompt prefix.
         *
         *     When `ttl` is omitted, the breakpoint inherits the request's `prompt_cache_options.ttl`; the boundary is not rounded to a token block.
         */
        openai__types__chat__chat_completion_content_part_input_audio_param__PromptCacheBreakpoint: {
            /**
             * Mode
             * @constant
             */
            mode: "explicit";
            /**
             * Ttl
             * @enum {string}
             */
            ttl?: "30m" | "12h";
        };
        /**
         * PromptCacheBreakpoint
         * @description Marks the exact end of a reusable prompt prefix.
         *
         *     When `ttl` is omitted, the breakpoint inherits the request's `prompt_cache_options.ttl`; the boundary is not rounded to a token block.
         */
        openai__types__chat__chat_completion_content_part_text_param__PromptCacheBreakpoint: {
            /**
             * Mode
             * @constant
             */
            mode: "explicit";
            /**
             * Ttl
             * @enum {string}
             */
            ttl?: "30m" | "12h";
        };
        /**
         * AnnotationURLCitation
         * @description A URL citation when using web search.
         */
        openai__types__chat__chat_completion_message__AnnotationURLCitation: {
            /** End Index */
            end_index: number;
            /** Start Index */
            start_index: number;
            /** Title */
            title: string;
            /** Url */
            url: string;
        };
        /** Content */
        openai_harmony__Content: Record<string, never>;
        /** Message */
        openai_harmony__Message: {
            author: components["schemas"]["Author"];
            /** Content */
            content?: components["schemas"]["openai_harmony__Content"][];
            /** Channel */
            channel?: string | null;
            /** Recipient */
            recipient?: string | null;
            /** Content Type */
            content_type?: string | null;
        };
        /** FunctionCall */
        vllm__entrypoints__generate__base__protocol__FunctionCall: {
            /** Name */
            name: string;
            /** Arguments */
            arguments: string;
        };
        /** FunctionDefinition */
        vllm__entrypoints__generate__base__protocol__FunctionDefinition: {
            /** Name */
            name: string;
            /** Description */
            description?: string | null;
            /** Parameters */
            parameters?: {
                [key: string]: unknown;
            } | null;
            /** Strict */
            strict?: (boolean | components["schemas"]["LenientBoolean"]) | null;
            /** Defer Loading */
            defer_loading?: (boolean | components["schemas"]["LenientBoolean"]) | null;
        };
        /**
         * Logprob
         * @description Infos for supporting OpenAI compatible logprobs and token ranks.
         *
         *     Attributes:
         *         logprob: The logprob of chosen token
         *         rank: The vocab rank of chosen token (>=1)
         *         decoded_token: The decoded chosen token index
         */
        vllm__logprobs__Logprob: {
            /** Logprob */
            logprob: number;
            /** Rank */
            rank?: number | null;
            /** Decoded Token */
            decoded_token?: string | null;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    create_chat_completion_v1_chat_completions_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ChatRequest"];
            };
        };
        responses: {
            /** @description The answer; with `stream`, its events as they come. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChatAnswer"];
                    "text/event-stream": {
                        event?: string;
                        data: string;
                    };
                };
            };
        };
    };
    list_models_v1_models_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelList"];
                };
            };
        };
    };
    get_model_v1_models__model__get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                model: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelCard"];
                };
            };
        };
    };
    tokenize_tokenize_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["TokenizeRequest"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TokenizeAnswer"];
                };
            };
        };
    };
    detokenize_detokenize_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["DetokenizeRequest"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DetokenizeAnswer"];
                };
            };
        };
    };
    align_v1_align_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["AlignRequest"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AlignAnswer"];
                };
            };
        };
    };
    render_preferences_v1_preferences_render_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RenderRequest"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RenderAnswer"];
                };
            };
        };
    };
    list_profiles_v1_profiles_get: {
        parameters: {
            query?: {
                limit?: number;
                /** @description only names after this one */
                after?: string | null;
                /** @description include archived profiles */
                archived?: boolean;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProfilePage"];
                };
            };
        };
    };
    create_profile_v1_profiles_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description a repeated key gets the same response for a day */
                "idempotency-key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewProfile"];
            };
        };
        responses: {
            /** @description Successful Response */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProfileModel"];
                };
            };
        };
    };
    export_profiles_v1_profiles_export_get: {
        parameters: {
            query?: {
                format?: "json" | "yaml";
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description All profiles. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProfilesDocument"];
                    "application/yaml": components["schemas"]["ProfilesDocument"];
                };
            };
        };
    };
    import_profiles_v1_profiles_import_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description a repeated key gets the same response for a day */
                "idempotency-key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ProfilesDocument"];
                "application/yaml": components["schemas"]["ProfilesDocument"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ImportReport"];
                };
            };
        };
    };
    get_profile_v1_profiles__name__get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description name of a profile */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProfileModel"];
                };
            };
        };
    };
    delete_profile_v1_profiles__name__delete: {
        parameters: {
            query?: never;
            header?: {
                /** @description ETag of the state to change */
                "if-match"?: string | null;
                /** @description a repeated key gets the same response for a day */
                "idempotency-key"?: string | null;
            };
            path: {
                /** @description name of a profile */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    change_profile_v1_profiles__name__patch: {
        parameters: {
            query?: never;
            header?: {
                /** @description ETag of the state to change */
                "if-match"?: string | null;
                /** @description a repeated key gets the same response for a day */
                "idempotency-key"?: string | null;
            };
            path: {
                /** @description name of a profile */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ProfileChange"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProfileModel"];
                };
            };
        };
    };
    list_versions_v1_profiles__name__versions_get: {
        parameters: {
            query?: {
                limit?: number;
                before?: number | null;
            };
            header?: never;
            path: {
                /** @description name of a profile */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VersionPage"];
                };
            };
        };
    };
    create_version_v1_profiles__name__versions_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description ETag of the state to change */
                "if-match"?: string | null;
                /** @description a repeated key gets the same response for a day */
                "idempotency-key"?: string | null;
            };
            path: {
                /** @description name of a profile */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewVersion"];
            };
        };
        responses: {
            /** @description Successful Response */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VersionModel"];
                };
            };
        };
    };
    get_version_v1_profiles__name__versions__number__get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description name of a profile */
                name: string;
                number: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VersionModel"];
                };
            };
        };
    };
    diff_versions_v1_profiles__name__diff_get: {
        parameters: {
            query: {
                from: number;
                to: number;
            };
            header?: never;
            path: {
                /** @description name of a profile */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DiffModel"];
                };
            };
        };
    };
    move_label_v1_profiles__name__labels__label__put: {
        parameters: {
            query?: never;
            header?: {
                /** @description ETag of the state to change */
                "if-match"?: string | null;
                /** @description a repeated key gets the same response for a day */
                "idempotency-key"?: string | null;
            };
            path: {
                /** @description name of a profile */
                name: string;
                /** @description name of a label */
                label: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LabelMove"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProfileModel"];
                };
            };
        };
    };
    delete_label_v1_profiles__name__labels__label__delete: {
        parameters: {
            query?: never;
            header?: {
                /** @description ETag of the state to change */
                "if-match"?: string | null;
                /** @description a repeated key gets the same response for a day */
                "idempotency-key"?: string | null;
            };
            path: {
                /** @description name of a profile */
                name: string;
                /** @description name of a label */
                label: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProfileModel"];
                };
            };
        };
    };
    roll_back_label_v1_profiles__name__labels__label__rollback_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description ETag of the state to change */
                "if-match"?: string | null;
                /** @description a repeated key gets the same response for a day */
                "idempotency-key"?: string | null;
            };
            path: {
                /** @description name of a profile */
                name: string;
                /** @description name of a label */
                label: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProfileModel"];
                };
            };
        };
    };
    give_feedback_v1_feedback_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["FeedbackBody"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FeedbackModel"];
                };
            };
        };
    };
    erase_user_v1_feedback_erase_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EraseBody"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErasureModel"];
                };
            };
        };
    };
    list_tenants_v1_admin_tenants_get: {
        parameters: {
            query?: {
                limit?: number;
                /** @description only names after this one */
                after?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TenantPage"];
                };
            };
        };
    };
    create_tenant_v1_admin_tenants_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewTenant"];
            };
        };
        responses: {
            /** @description Successful Response */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TenantModel"];
                };
            };
        };
    };
    get_tenant_v1_admin_tenants__name__get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description name of a tenant */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TenantModel"];
                };
            };
        };
    };
    change_tenant_v1_admin_tenants__name__patch: {
        parameters: {
            query?: never;
            header?: {
                /** @description ETag of the state to change */
                "if-match"?: string | null;
            };
            path: {
                /** @description name of a tenant */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["TenantChange"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TenantModel"];
                };
            };
        };
    };
    list_keys_v1_admin_keys_get: {
        parameters: {
            query?: {
                limit?: number;
                /** @description only ids after this one */
                after?: string | null;
                tenant?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyPage"];
                };
            };
        };
    };
    create_key_v1_admin_keys_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewKeyBody"];
            };
        };
        responses: {
            /** @description Successful Response */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewKeyModel"];
                };
            };
        };
    };
    revoke_key_v1_admin_keys__key_id__revoke_post: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description the public part of a key */
                key_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyModel"];
                };
            };
        };
    };
    rotate_key_v1_admin_keys__key_id__rotate_post: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description the public part of a key */
                key_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Rotation"];
            };
        };
        responses: {
            /** @description Successful Response */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewKeyModel"];
                };
            };
        };
    };
    list_audit_v1_admin_audit_get: {
        parameters: {
            query?: {
                limit?: number;
                /** @description only ids below this one */
                before?: number | null;
                tenant?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditPage"];
                };
            };
        };
    };
    erase_user_v1_admin_users_erase_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["AdminErase"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErasureModel"];
                };
            };
        };
    };
    version_version_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VersionsModel"];
                };
            };
        };
    };
    readyz_readyz_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StateModel"];
                };
            };
        };
    };
}
